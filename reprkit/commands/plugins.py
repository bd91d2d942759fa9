"""``reprkit plugins``: list the plugins with their versions, status, parts and errors."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json, emit_table, printable
from reprkit.errors import UnknownPartError, nearest
from reprkit.registry.discovery import InstalledPlugin
from reprkit.registry.installed import Installation, find_installations, normalize
from reprkit.registry.registry import Registry, default_registry


def command(
    json: JsonOption = False,
    why: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Explain one plugin: what was found, which record is used, how long it took, what failed.",
        ),
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
        left = [each for records in find_installations() for each in records if each.distribution == wanted]
        remains = "".join(f"\n  {each.path} was skipped: {_STATES[each.state]}" for each in left)
        raise UnknownPartError(
            f"no plugin named {why!r} is installed.{nearest(wanted, known)}\n  known: {', '.join(known)}{remains}\n"
            "  a plugin is found by its entry point in group 'reprkit'; after changing that, reinstall it"
        )
    if json:
        emit_json([{**_plain(row), "details": row.details, **_origin(row)} for row in rows])
        return
    for row in rows:
        print(
            printable(f"{_title(row)} {row.version}: {row.status}{f' ({row.reason})' if row.reason else ''}")
        )
        for installation in row.installations:
            print(printable(f"  found: {_describe(installation)}"))
        if row.target:
            print(printable(f"  entry point: {row.name} = {row.target}"))
            if row.status != "disabled":
                print(f"  import: {row.seconds:.3f} s")
        for kind, names in row.offers.items():
            print(f"  {kind}s: {', '.join(names) or 'none'}")
        if row.details:
            print()
            print("\n".join(map(printable, row.details.rstrip().split("\n"))))


_STATES = {
    "used": "used",
    "stale": "stale, beside the one that is used",
    "hidden": "hidden by the one that is used, which is earlier on sys.path",
    "leftover": "left by an interrupted uninstallation; remove it",
}


def _describe(installation: Installation) -> str:
    metadata = "" if installation.complete else ", METADATA is missing or incomplete"
    return f"{installation.path or 'a record without a folder'} ({_STATES[installation.state]}{metadata})"


def _origin(row: InstalledPlugin) -> dict[str, Any]:
    return {
        "entry_point": row.target,
        "seconds": round(row.seconds, 4),
        "found": [installation.to_json() for installation in row.installations],
    }


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
