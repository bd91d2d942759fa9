"""The tar files that a folder, a pattern or a list names."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprkit.data.folders import find_files, suffix_of
from reprkit.data.regular_files import check_regular
from reprkit.errors import DataError

SIGNATURE = "reprkit-signature.json"  # beside shards that reprkit has written
SUFFIXES = frozenset((".tar",))
_COMPRESSED = {
    suffix: "it is compressed, and records cannot be read by their place: decompress it"
    for suffix in (".tgz", ".gz", ".bz2", ".xz", ".zst")
}
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def find_shards(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> tuple[list[Path], dict[str, Any]]:
    """Return the tar files that a path, a pattern or a list of them names, in order, and entries for ``describe``.

    Raises:
        DataError: nothing of that name, a file that is no tar file, or one that is named twice.
    """
    if not isinstance(path, str | os.PathLike):
        found = [find_shards(each) for each in path]
        paths = [file for files, _ in found for file in files]
        if not paths:
            raise DataError("path= is an empty list: name at least one tar file")
        if len(set(paths)) < len(paths):
            twice = Counter(map(str, paths)).most_common(1)[0][0]
            raise DataError(f"{twice!r} is named twice in path=")
        return paths, {name: value for _, facts in found for name, value in facts.items()}
    text = os.path.expanduser(os.fspath(path))
    if os.path.isdir(text):
        files = find_files(text, SUFFIXES, "tar files", undecoded=_COMPRESSED)
        for name, why in [entry for entry in files.unreadable if _is_other(*entry)]:
            files.unreadable.remove((name, why))
            files.ignore(name, f"suffix {suffix_of(name)}")
        others = [name for name in files.ignored.pop("suffix .json", []) if Path(name).name != SIGNATURE]
        for name in others:
            files.ignore(name, "suffix .json")
        if files.unreadable:
            listed = "\n".join(f"  {name}: {why}" for name, why in files.unreadable[:5])
            raise DataError(f"some shards in {text!r} cannot be read:\n{listed}")
        return [Path(text, name) for name in files.names], files.facts()
    if _RANGE.search(text):
        names = _expand_ranges(text)
    elif any(mark in text for mark in "*?[") and not os.path.exists(text):
        names = sorted(glob.glob(text))
        if not names:
            raise DataError(f"no file matches {text!r} (looked in {Path.cwd()})")
    else:
        names = [text]
    for name in names:
        if not check_regular(Path(name)).is_file():
            raise DataError(f"no file {name!r} (looked in {Path.cwd()})")
        if Path(name).suffix.lower() not in SUFFIXES:
            why = _COMPRESSED.get(Path(name).suffix.lower(), "it is no .tar file")
            raise DataError(f"{name!r} cannot be read as a shard: {why}")
    return [Path(name) for name in names], {}


def _is_other(name: str, why: str) -> bool:
    """Whether a compressed file is no tar file."""
    return why in _COMPRESSED.values() and ".tar." not in name and not name.endswith(".tgz")


def _expand_ranges(text: str) -> list[str]:
    """Expand ``{0000..0099}``, as a shell does."""
    found = _RANGE.search(text)
    if found is None:
        return [text]
    first, last = found.groups()
    if int(last) < int(first):
        raise DataError(f"the range {found.group()!r} of {text!r} is empty")
    width = len(first) if first.startswith("0") else 0
    before, after = text[: found.start()], text[found.end() :]
    numbers = range(int(first), int(last) + 1)
    return [name for n in numbers for name in _expand_ranges(f"{before}{n:0{width}d}{after}")]
