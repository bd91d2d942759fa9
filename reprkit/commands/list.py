"""``reprkit list [KIND]``: the parts that can be named in a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from reprkit.commands.output import emit_json, emit_table
from reprkit.errors import UnknownPartError
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.lookup import parse_kind
from reprkit.registry.registry import default_registry


def kinds() -> list[str]:
    """What can stand for KIND; for shell completion."""
    return [f"{kind}s" for kind in KINDS]


def command(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help=f"One of: {', '.join(KINDS)}.", autocompletion=kinds, show_default=False
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the parts that can be named in a recipe."""
    try:
        wanted = [parse_kind(kind)] if kind else list(KINDS)
    except UnknownPartError as error:
        raise typer.BadParameter(str(error)) from None
    registry = default_registry()
    parts = [each for every in wanted for each in registry.specs(every)]
    if json:
        emit_json(
            [
                {
                    "kind": each.kind,
                    "name": each.name,
                    "qualified": each.qualified,
                    "version": each.version,
                    "summary": each.spec.summary,
                    "requires": list(each.spec.requires),
                    "missing": list(each.missing),
                }
                for each in parts
            ]
        )
        return
    offered = [(each.kind, each.name) for each in parts]
    rows = []
    for each in parts:
        short = each.name if offered.count((each.kind, each.name)) == 1 else each.qualified
        absent = f"not usable here: {', '.join(each.missing)} missing" if each.missing else ""
        rows.append(("" if kind else each.kind, short, each.distribution, each.spec.summary, absent))
    if rows:
        emit_table(("kind", "name", "from", "summary", "note"), rows)
    else:
        print(f"no {wanted[0]}s are installed")
