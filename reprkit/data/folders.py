"""List the files of a data set's folder: which are read, which are ignored and by which rule, and which cannot be read."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprkit.errors import DataError

HIDDEN = "hidden"
LINK_TO_FOLDER = "link to a folder that is read already"
IRREGULAR = "pipe, device or socket"
_NAMED = 5  # ignored files that are named for each rule; all are counted
_RULES = 50  # rules that are listed


@dataclass
class FolderFiles:
    """The files below a folder, each accounted for.

    Attributes:
        folder: the folder.
        names: relative paths of the files to read, with ``/``, sorted.
        ignored: rule -> names of the files that it excludes: hidden, another suffix, no regular file.
        unreadable: (name, reason) of entries that cannot be read: a link to nothing, a folder without permission.
    """

    folder: Path
    names: list[str] = field(default_factory=list)
    ignored: dict[str, list[str]] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def ignore(self, name: str, rule: str) -> None:
        """Record a file that is not read, and the rule that says so."""
        self.ignored.setdefault(rule, []).append(name)

    def counts(self) -> list[tuple[str, int]]:
        """Return the number of ignored files by rule, the largest first."""
        counts = ((rule, len(names)) for rule, names in self.ignored.items() if names)
        return sorted(counts, key=lambda item: (-item[1], item[0]))

    def facts(self) -> dict[str, Any]:
        """Return the entries for ``describe``: ``ignored_count``, and ``ignored``, the rules; {} if nothing was ignored."""
        counts = self.counts()
        if not counts:
            return {}
        rules = {
            rule: {"count": count, "names": heapq.nsmallest(_NAMED, self.ignored[rule])}
            for rule, count in counts[:_RULES]
        }
        return {"ignored_count": sum(count for _, count in counts), "ignored": rules}


def find_files(
    root: Any,
    suffixes: Collection[str],
    what: str,
    *,
    undecoded: Mapping[str, str] | None = None,
) -> FolderFiles:
    """Find the files with these suffixes below a folder, at any depth.

    Hidden files and folders (whose name starts with a dot) are ignored.  Links to files and to folders are followed; a folder
    that is reached twice is read once, so loops end.

    Args:
        root: the folder.
        suffixes: suffixes of the files to read, in lower case with their dot.
        what: name of the files in the plural, for messages.
        undecoded: suffix -> what is missing, of files that hold such data and cannot be decoded here; they are unreadable.

    Raises:
        DataError: no such folder, ``root`` is a file, or no file with these suffixes below it.
    """
    folder = Path(root).expanduser()
    if not folder.exists():
        raise DataError(f"no folder {str(folder)!r} (looked in {Path.cwd()})")
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is a file; root= is the folder that holds the {what}")
    found, missing = FolderFiles(folder), undecoded or {}
    for name, rule, error in walk_folder(folder):
        suffix = suffix_of(name)
        if error is not None and (suffix in suffixes or not suffix or rule is not None):
            found.unreadable.append((name, error))
        elif rule is not None:
            found.ignore(name, rule)
        elif suffix in suffixes:
            found.names.append(name)
        elif suffix in missing:
            found.unreadable.append((name, missing[suffix]))
        else:
            found.ignore(name, f"suffix {suffix}" if suffix else "without a suffix")
    found.names.sort()
    found.unreadable.sort()
    if not found.names:
        raise DataError(_nothing(found, suffixes, what))
    return found


def find_others(folder: Path, read: Collection[str]) -> FolderFiles:
    """List what is below a folder besides the files that a data set reads from its first level."""
    found = FolderFiles(folder, sorted(read))
    for name, rule, error in walk_folder(folder):
        if name not in read or "/" in name:
            suffix = suffix_of(name)
            beside = f"suffix {suffix}" if suffix else "without a suffix"
            found.ignore(name, rule or error or ("in a folder below" if "/" in name else beside))
    return found


def walk_folder(folder: Path) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield every file below a folder: (relative path with ``/``, the rule by which it is ignored, why it cannot be read).

    A folder that is hidden, linked twice or unreadable is one entry.  Links are followed after all real folders, in sorted order.
    """
    entered = set[tuple[int, int]]()
    folders, links = [""], list[str]()
    while folders or links:
        prefix = folders.pop() if folders else links.pop(0)
        path = os.path.join(folder, prefix)
        try:
            status = os.stat(path)
            key = (status.st_dev, status.st_ino)
            if key in entered:
                yield prefix.rstrip("/"), LINK_TO_FOLDER, None
                continue
            entered.add(key)
            deeper, linked = list[str](), list[str]()
            with os.scandir(path) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    if entry.name.startswith("."):
                        yield name, HIDDEN, None
                        continue
                    kind, error = _kind(entry)
                    if kind == "folder":
                        (linked if entry.is_symlink() else deeper).append(name + "/")
                    else:
                        yield name, IRREGULAR if kind == "irregular" else None, error
        except OSError as error:
            yield prefix.rstrip("/") or ".", "folder", _reason(error)
            continue
        folders += sorted(deeper, reverse=True)
        links += sorted(linked)


def suffix_of(name: str) -> str:
    """Return the suffix of a path in lower case with its dot; empty if there is none."""
    return os.path.splitext(name)[1].lower()


def _kind(entry: os.DirEntry[str]) -> tuple[str, str | None]:
    """Return "folder", "file" or "irregular", and why the entry cannot be read."""
    try:
        if entry.is_dir():
            return "folder", None
        if entry.is_file():
            return "file", None
        entry.stat()  # raises for a link to nothing
    except OSError as error:
        missing = isinstance(error, FileNotFoundError) and entry.is_symlink()
        return "file", "it is a link to a file that does not exist" if missing else _reason(error)
    return "irregular", None


def _reason(error: OSError) -> str:
    return f"{type(error).__name__}: {error.strerror or error}"


def _nothing(found: FolderFiles, suffixes: Collection[str], what: str) -> str:
    holds = [f"{count:,} {describe_rule(rule)}" for rule, count in found.counts()[:10]]
    lines = [
        f"the folder {str(found.folder)!r} holds no {what} ({', '.join(sorted(suffixes))}) at any depth",
        f"  it holds: {', '.join(holds) or ('no files at all' if not found.unreadable else 'no others')}",
    ]
    lines += [f"  {name}: {why}" for name, why in found.unreadable[:5]]
    return "\n".join(lines)


def describe_rule(rule: str) -> str:
    """Return a rule as it stands after a number: ``.csv``, ``hidden``."""
    return rule.removeprefix("suffix ")


def count_suffixes(folder: Path) -> Counter[str]:
    """Count the files of each suffix ("" without one) below a folder, without hidden ones."""
    return Counter(suffix_of(name) for name, rule, _ in walk_folder(folder) if rule is None)
