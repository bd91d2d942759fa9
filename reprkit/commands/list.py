"""``reprkit list [KIND]``: list the parts that can be named in a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json, emit_table
from reprkit.errors import UnknownPartError
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.lookup import parse_kind
from reprkit.registry.registry import default_registry


def kinds() -> list[str]:
    """Completions of KIND for the shell."""
    return [f"{kind}s" for kind in KINDS]


def command(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help=f"One of: {', '.join(KINDS)}.", autocompletion=kinds, show_default=False
        ),
    ] = "",
    json: JsonOption = False,
) -> None:
    """List the parts that can be named in a recipe."""
    try:
        listed = [parse_kind(kind)] if kind else list(KINDS)
    except UnknownPartError as error:
        raise typer.BadParameter(str(error)) from None
    registry = default_registry()
    parts = [part for part_kind in listed for part in registry.specs(part_kind)]
    if json:
        emit_json(
            [
                {
                    "kind": part.kind,
                    "name": part.name,
                    "qualified": part.qualified,
                    "version": part.version,
                    "summary": part.spec.summary,
                    "requires": list(part.spec.requires),
                    "missing": list(part.missing),
                }
                for part in parts
            ]
        )
        return
    names = [(part.kind, part.name) for part in parts]
    rows = []
    for part in parts:
        name = part.name if names.count((part.kind, part.name)) == 1 else part.qualified
        note = f"not usable here: {', '.join(part.missing)} missing" if part.missing else ""
        rows.append(("" if kind else part.kind, name, part.distribution, part.spec.summary, note))
    if rows:
        emit_table(("kind", "name", "from", "summary", "note"), rows)
    else:
        print(f"no {listed[0]}s are installed")
