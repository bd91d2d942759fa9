"""Index of tar files whose members are grouped to records by their names, as in WebDataset."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reprkit.errors import DataError
from reprkit.utils.cache import cache_folder, write_cached

_SLOW = 1.0  # seconds: an index that took longer is kept in the cache
_BLOCK = 512


@dataclass
class TarIndex:
    """Where the records of tar files lie.

    Attributes:
        offsets: of the content of every member in its file (m,), int64, in bytes.
        lengths: of every member (m,), int64, in bytes.
        suffixes: index in ``names`` of the suffix of every member (m,), int64.
        records: the first member of every record, and the number of members at the end (r + 1,), int64.
        sizes: number of records of every file (s,), int64.
        lost: bytes of every truncated or damaged file after its last whole member (s,), int64; where it is shorter than
            the others, as if it had been as long as their median.
        names: the suffixes, in lower case without the first dot: "jpg", "seg.png".
        damages: (number of the file, what is wrong with it).
        ignored: number of members that are no record: folders, links, hidden files.
    """

    offsets: np.ndarray
    lengths: np.ndarray
    suffixes: np.ndarray
    records: np.ndarray
    sizes: np.ndarray
    lost: np.ndarray
    names: list[str] = field(default_factory=list)
    damages: list[tuple[int, str]] = field(default_factory=list)
    ignored: int = 0


def read_index(paths: Sequence[Path]) -> TarIndex:
    """Return the index of tar files, from the cache if they have been indexed before and have the same sizes and times.

    Only the headers are read, one for each member.  A file that is truncated or damaged has the records before the damage.

    Raises:
        DataError: two members of a record have one suffix.
    """
    cached = cache_path(paths, ".npz")
    if cached.exists():
        try:
            return _load(cached)
        except (OSError, ValueError, KeyError, EOFError):
            pass  # written by another version, or damaged: it is made again
    began = time.monotonic()
    index = _scan(paths)
    if time.monotonic() - began > _SLOW:
        write_cached(cached, _dump(index))
    return index


def cache_path(paths: Sequence[Path], suffix: str, what: str = "") -> Path:
    """Return the file in the cache for what was read from tar files; it changes with their sizes and times, and ``what`` it is."""
    stats = [(path.resolve(), path.stat()) for path in paths]
    key = "\n".join([what, *(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)])
    return cache_folder("shards") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{suffix}"


class _Scan:
    """Collects the members of one tar file after another."""

    def __init__(self) -> None:
        self.offsets, self.lengths, self.suffixes = list[int](), list[int](), list[int]()
        self.records, self.sizes = list[int](), list[int]()
        # Bytes of the files, and where their last whole members end.
        self.files, self.ends = list[int](), list[int]()
        self.names: dict[str, int] = {}
        self.damages: list[tuple[int, str]] = []
        self.ignored = 0

    def add_file(self, path: Path) -> None:
        before, size = len(self.records), path.stat().st_size
        damage, end = self._add_members(path, size)
        self.sizes.append(len(self.records) - before)
        self.files.append(size)
        self.ends.append(end)
        if damage:
            self.damages.append((len(self.sizes) - 1, damage))

    def lost(self) -> np.ndarray:
        """Return the bytes that every file has lost: see ``TarIndex``."""
        damaged = np.zeros(len(self.files), bool)
        damaged[[number for number, _ in self.damages]] = True
        files = np.array(self.files, np.int64)
        usual = int(np.median(files[~damaged])) if not damaged.all() else 0
        return np.where(damaged, np.maximum(files, usual) - np.array(self.ends), 0).astype(np.int64)

    def _add_members(self, path: Path, size: int) -> tuple[str | None, int]:
        """Add the records of a file; return what is wrong with it, and where its last whole member ends."""
        last, end, present = None, 0, set[str]()
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    tar.members.clear()  # type: ignore[attr-defined]  # it keeps them all
                    stop = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                    if member.offset_data + member.size > size:
                        return f"truncated in {member.name!r}", end
                    end = min(stop, size)
                    key, suffix = split_name(member.name)
                    if not member.isreg() or suffix is None:
                        self.ignored += 1
                        continue
                    if key != last:
                        self.records.append(len(self.offsets))
                        present.clear()
                    if suffix in present:
                        raise DataError(
                            f"{str(path)!r} holds two files {key}.{suffix}: a record has one file of each suffix"
                        )
                    present.add(suffix)
                    last = key
                    self.offsets.append(member.offset_data)
                    self.lengths.append(member.size)
                    self.suffixes.append(self.names.setdefault(suffix, len(self.names)))
        except (tarfile.TarError, OSError) as error:
            return f"{type(error).__name__}: {error}", end
        with path.open("rb") as file:  # tarfile takes a damaged header for the end
            file.seek(end)
            block = file.read(_BLOCK)
        if block.strip(b"\0"):
            return f"damaged at byte {end}", end
        return None if len(block) == _BLOCK else "it has no end: truncated after a whole file", end


def split_name(name: str) -> tuple[str, str | None]:
    """Split the name of a member at the first dot of its last part: ("a/0001", "seg.png"); no suffix for a hidden file."""
    folder, _, last = name.rpartition("/")
    stem, dot, suffix = last.partition(".")
    if not stem or not dot or (stem.startswith("__") and stem.endswith("__")):
        return name, None
    return f"{folder}/{stem}" if folder else stem, suffix.lower()


def _scan(paths: Sequence[Path]) -> TarIndex:
    scan = _Scan()
    for path in paths:
        scan.add_file(path)
    return TarIndex(
        offsets=np.array(scan.offsets, np.int64),
        lengths=np.array(scan.lengths, np.int64),
        suffixes=np.array(scan.suffixes, np.int64),
        records=np.array([*scan.records, len(scan.offsets)], np.int64),
        sizes=np.array(scan.sizes, np.int64),
        lost=scan.lost(),
        names=list(scan.names),
        damages=scan.damages,
        ignored=scan.ignored,
    )


_ARRAYS = ("offsets", "lengths", "suffixes", "records", "sizes", "lost")


def _dump(index: TarIndex) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        names=np.array(index.names, dtype=np.str_),
        damaged=np.array([number for number, _ in index.damages], np.int64),
        why=np.array([why for _, why in index.damages], dtype=np.str_),
        ignored=np.array(index.ignored),
        **{name: getattr(index, name) for name in _ARRAYS},
    )
    return buffer.getvalue()


def _load(path: str | os.PathLike[str]) -> TarIndex:
    with np.load(path, allow_pickle=False) as stored:
        damages = list(zip(stored["damaged"].tolist(), stored["why"].tolist(), strict=True))
        arrays: dict[str, Any] = {name: stored[name] for name in _ARRAYS}
        return TarIndex(
            **arrays, names=stored["names"].tolist(), damages=damages, ignored=int(stored["ignored"])
        )
