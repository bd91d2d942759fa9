"""``reprkit show KIND NAME``: show a part's arguments, paper and plugin, read from its source without importing it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from reprkit.commands.list import kinds
from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json, emit_table
from reprkit.errors import ReferenceSyntaxError, UnknownPartError
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.lookup import FoundPart, parse_kind
from reprkit.registry.registry import default_registry
from reprkit.registry.sources import Argument, ClassSource, from_build_context, locate, read_class


def _names(ctx: typer.Context) -> list[str]:
    """Completions of NAME for the shell."""
    kind = ctx.params.get("kind")
    return [part.name for part in default_registry().specs(kind)] if kind else []


def command(
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)}.", autocompletion=kinds)],
    name: Annotated[
        str,
        typer.Argument(help="The part, as plugin/name if several plugins offer it.", autocompletion=_names),
    ],
    json: JsonOption = False,
) -> None:
    """Show one part: its arguments, paper and provider.

    Nothing is imported, so this works without the libraries that the part needs.
    """
    try:
        kind = parse_kind(kind)
    except UnknownPartError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        found = default_registry().find(kind, name)
    except ReferenceSyntaxError as error:
        raise typer.BadParameter(str(error)) from None
    source = read_class(found.spec.build)
    if json:
        emit_json(_plain(found, source))
        return
    print(f"{found.kind} {found.qualified} {found.version}")
    if found.spec.summary:
        print(f"  {found.spec.summary}")
    if source is None:
        missing = locate(found.spec.build.partition(":")[0]) is None
        reason = "its module is not there" if missing else "its source cannot be read without importing it"
        print(f"\n{reason}; for its arguments see the documentation of {found.distribution}")
    else:
        arguments = [each for each in source.arguments if not from_build_context(found.kind, each.name)]
        print(f"\n{found.name}({', '.join(map(str, arguments))})")
        if arguments:
            print()
            emit_table(("argument", "type", "default", ""), [_row(argument) for argument in arguments])
        for title, lines in (("about", source.doc.splitlines()[:1]), ("paper", source.papers)):
            for line in lines:
                print(f"\n{title}: {line}" if line == lines[0] else f"       {line}")
    print(f"\nclass: {found.spec.build}")
    for library in found.spec.requires:
        print(f"requires: {library} ({'missing' if library in found.missing else 'installed'})")


def _row(argument: Argument) -> tuple[str, str, str, str]:
    return (argument.name, argument.type or "", argument.default or "must be given", argument.help)


def _plain(found: FoundPart, source: ClassSource | None) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "name": found.name,
        "qualified": found.qualified,
        "distribution": found.distribution,
        "version": found.version,
        "summary": found.spec.summary,
        "build": found.spec.build,
        "requires": {each: each not in found.missing for each in found.spec.requires},
        "doc": source.doc if source else None,
        "papers": list(source.papers) if source else [],
        "arguments": [
            {
                "name": each.name,
                "type": each.type,
                "default": each.default,
                "required": each.default is None,
                "handed_over": from_build_context(found.kind, each.name),
                "help": each.help,
            }
            for each in (source.arguments if source else ())
        ],
    }
