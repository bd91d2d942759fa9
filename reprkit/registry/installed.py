"""Find the distributions that offer plugins, and decide which of several records of one distribution is its installation.

An interrupted upgrade or uninstallation leaves records (``.dist-info`` folders) behind.  Imports no plugin.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

GROUP = "reprkit"
UNKNOWN = "unknown"  # version of a distribution whose METADATA is missing


@dataclass(frozen=True)
class Installation:
    """One record of an installed distribution with plugins.

    Attributes:
        distribution: name, normalized.
        version: as ``importlib.metadata`` gives it.
        path: the folder of the record; None if it is not a folder.
        entry_points: of group ``reprkit``.
        fault: why the entry points cannot be read.
        complete: whether it has METADATA with a name and a version.
        state: "used", "stale" (in the same folder as the used one, or incomplete), "hidden" (by the used one, which is earlier on
            ``sys.path``), or "leftover" (of an interrupted uninstallation; its name begins with ~).
    """

    distribution: str
    version: str
    path: Path | None
    entry_points: tuple[metadata.EntryPoint, ...] = ()
    fault: str = ""
    complete: bool = True
    state: str = "used"

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data: path, version, state."""
        path = "" if self.path is None else str(self.path)
        return {"path": path, "version": self.version, "state": self.state}


def normalize(name: str) -> str:
    """Normalize a distribution's name for comparison: lower case, dashes only."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_installations() -> list[list[Installation]]:
    """Find all records with entry points of group ``reprkit``, one list a distribution, sorted by name; the used one comes first.

    A distribution of which only leftovers exist has a list without a used one.  Raises nothing.
    """
    found: dict[str, list[Installation]] = {}
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except (OSError, UnicodeError):
            continue  # unreadable, so it is unknown whether it is a plugin
        if f"[{GROUP}]" not in text:
            continue
        installation = _read(distribution)
        if installation.path is not None:
            if (resolved := os.path.realpath(installation.path)) in seen:  # a folder is twice on sys.path
                continue
            seen.add(resolved)
        found.setdefault(installation.distribution, []).append(installation)
    return [_choose(found[name]) for name in sorted(found)]


def describe_stale(installations: Sequence[Installation]) -> str:
    """Return a remark on records that an interrupted installation left next to the used one; empty if there are none."""
    stale = [each.path.name for each in installations if each.state == "stale" and each.path is not None]
    used = installations[0]
    if not stale or used.path is None:
        return ""
    return (
        f"{used.path.name} is used, and {' and '.join(stale)} beside it {'is' if len(stale) == 1 else 'are'} stale: remove "
        f"{'it' if len(stale) == 1 else 'them'}, or pip install --force-reinstall {used.distribution}"
    )


def _read(distribution: metadata.Distribution) -> Installation:
    path = getattr(distribution, "_path", None)  # no public attribute has it
    folder = path if isinstance(path, Path) else None
    name, version, complete = "", UNKNOWN, False
    try:
        head = distribution.metadata
        name, version = str(head["Name"] or ""), str(head["Version"] or UNKNOWN)
        complete = bool(name) and version != UNKNOWN
    except Exception:  # without METADATA some versions of Python return None, others raise
        version = UNKNOWN
    stem = "" if folder is None else folder.name.rpartition(".")[0].partition("-")[0]
    points: tuple[metadata.EntryPoint, ...] = ()
    fault = ""
    try:
        points = tuple(distribution.entry_points.select(group=GROUP))
    except Exception as error:
        fault = f"its entry_points.txt cannot be read ({error})"
    state = "leftover" if stem.startswith("~") else "used"
    return Installation(normalize(name or stem or "unnamed"), version, folder, points, fault, complete, state)


def _choose(records: list[Installation]) -> list[Installation]:
    """Order the records of one distribution: the installation first; the others get their state."""
    leftovers = [each for each in records if each.state == "leftover"]
    rest = [each for each in records if each.state != "leftover"]
    if len(rest) > 1:
        parents = [each.path and each.path.parent for each in rest]
        rest.sort(
            key=lambda each: (
                not each.complete,
                -_evidence(each),
                parents.index(each.path and each.path.parent),
                -_modified(each),
            )
        )
        first = rest[0]
        rest[1:] = [
            replace(each, state="stale" if _in_same_folder(first, each) or not each.complete else "hidden")
            for each in rest[1:]
        ]
    return rest + leftovers


def _in_same_folder(one: Installation, other: Installation) -> bool:
    return one.path is not None and other.path is not None and one.path.parent == other.path.parent


def _evidence(installation: Installation) -> int:
    """Return how well a record agrees with the plugin's modules.

    2: its RECORD has their hashes; 1: nothing contradicts it; 0: its RECORD has others, or its modules are missing.
    """
    folder = installation.path
    if folder is None:
        return 1
    modules = {point.module.replace(".", "/") for point in installation.entry_points}
    recorded = _recorded(folder)
    listed = {
        name: entry
        for name, entry in recorded.items()
        if any(name in (f"{module}.py", f"{module}/__init__.py") for module in modules)
    }
    if listed:
        return 2 if all(_has_hash(folder.parent / name, entry) for name, entry in listed.items()) else 0
    if recorded:  # of an editable installation, whose modules are elsewhere
        return 1
    return int(all(_module_exists(folder.parent, module) for module in modules))


def _recorded(folder: Path) -> dict[str, str]:
    try:
        with (folder / "RECORD").open(encoding="utf-8", newline="") as file:
            return {row[0]: row[1] if len(row) > 1 else "" for row in csv.reader(file) if row}
    except (OSError, UnicodeError, csv.Error):
        return {}


def _has_hash(path: Path, entry: str) -> bool:
    algorithm, _, expected = entry.partition("=")
    try:
        content = path.read_bytes()
        if not expected:
            return True
        digest = hashlib.new(algorithm, content).digest()
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == expected.rstrip("=")


def _module_exists(folder: Path, module: str) -> bool:
    return (folder / module).is_dir() or any((folder / module).parent.glob(f"{Path(module).name}.*"))


def _modified(installation: Installation) -> float:
    try:
        return 0.0 if installation.path is None else installation.path.stat().st_mtime
    except OSError:
        return 0.0
