"""``reprkit plugins``: list the plugins with their versions, status, parts and errors."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json, emit_table
from reprkit.errors import UnknownPartError, nearest
from reprkit.registry.discovery import InstalledPlugin, normalize
from reprkit.registry.registry import Registry, default_registry


def command(
    json: JsonOption = False,
    why: Annotated[
        str, typer.Option(metavar="NAME", help="Show one plugin in detail, with its traceback.")
    ] = "",
) -> None:
    """List the plugins: version, status, what each offers, what went wrong.

    REPRKIT_PLUGINS=a,b loads only these third-party plugins; an empty value disables all of them.
    """
    registry = default_registry()
    if why:
        _explain(registry, why, json)
        return
    if json:
        emit_json([_plain(row) for row in registry.plugins])
    else:
        columns = ("plugin", "version", "status", "offers", "reason")
        emit_table(
            columns,
            [(_title(row), row.version, row.status, _offers(row), row.reason) for row in registry.plugins],
        )
    known = {row.distribution for row in registry.plugins}
    for name in registry.unmatched:
        print(
            f"REPRKIT_PLUGINS names {name!r}, which is not installed.{nearest(name, known)}", file=sys.stderr
        )


def _explain(registry: Registry, why: str, json: bool) -> None:
    wanted = normalize(why)
    rows = [row for row in registry.plugins if wanted in (row.distribution, normalize(row.name))]
    if not rows:
        known = sorted({row.distribution for row in registry.plugins})
        raise UnknownPartError(
            f"no plugin named {why!r} is installed.{nearest(wanted, known)}\n  known: {', '.join(known)}\n"
            "  a plugin is found by its entry point in group 'reprkit'; after changing that, reinstall it"
        )
    if json:
        emit_json([{**_plain(row), "details": row.details} for row in rows])
        return
    for row in rows:
        print(f"{_title(row)} {row.version}: {row.status}{f' ({row.reason})' if row.reason else ''}")
        for kind, names in row.offers.items():
            print(f"  {kind}s: {', '.join(names) or 'none'}")
        if row.details:
            print(f"\n{row.details.rstrip()}")


def _title(row: InstalledPlugin) -> str:
    same = row.distribution in (normalize(row.name), "reprkit")
    return row.distribution if same else f"{row.distribution} ({row.name})"


def _offers(row: InstalledPlugin) -> str:
    offers = {kind: names for kind, names in row.offers.items() if names}
    if sum(map(len, offers.values())) > 8:
        return ", ".join(
            f"{len(names)} {kind}{'s' if len(names) > 1 else ''}" for kind, names in offers.items()
        )
    return "; ".join(
        f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}" for kind, names in offers.items()
    )


def _plain(row: InstalledPlugin) -> dict[str, Any]:
    return {
        "name": row.name,
        "distribution": row.distribution,
        "version": row.version,
        "status": row.status,
        "offers": {kind: list(names) for kind, names in row.offers.items()},
        "reason": row.reason,
    }
