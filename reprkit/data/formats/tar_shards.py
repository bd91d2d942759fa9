"""Tar files as shards of a stream: a record is read by its place, when it is decoded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from reprkit.data.formats.positional_file import PositionalFile
from reprkit.data.formats.tar_index import TarIndex, read_index
from reprkit.data.loading.shards import Numbers, Shards, starts_of

_OPEN = 64  # files that a process keeps open
_GAP = 4096  # bytes between two members that are read over

Reference = tuple[int, int]  # number of the file, number of the record in it


class TarShards(Shards):
    """Shards whose records are (file, number): ``content`` reads them, wherever they are decoded.

    Args:
        paths: the tar files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.index: TarIndex = read_index(self.paths)
        self.sizes, self.starts = self.index.sizes, starts_of(self.index.sizes)
        self._bytes = [path.stat().st_size for path in self.paths]
        self._files: OrderedDict[int, PositionalFile] = OrderedDict()

    def read(self, shard: int, numbers: Numbers) -> Iterator[Reference]:
        """Yield the references of the records with these numbers."""
        return ((shard, number) for number in numbers.tolist())

    def content(self, reference: Reference, wanted: Collection[str]) -> dict[str, memoryview]:
        """Return the files of a record that have the wanted suffixes: suffix -> content, views of one block of memory.

        Raises:
            DataError: the tar file was removed, replaced or cut short, or cannot be read.
        """
        index, shard = self.index, reference[0]
        first, last = self._members(reference)
        found = [
            (index.names[suffix], offset, length)
            for suffix, offset, length in zip(
                index.suffixes[first:last].tolist(),
                index.offsets[first:last].tolist(),
                index.lengths[first:last].tolist(),
                strict=True,
            )
            if index.names[suffix] in wanted
        ]
        if not found:
            return {}
        file = self._open(shard)
        start, end = found[0][1], found[-1][1] + found[-1][2]
        if end - start <= sum(length for _, _, length in found) + _GAP:  # neighbors: one read
            block = _read(file, start, end)
            return {name: block[at - start : at - start + length] for name, at, length in found}
        return {name: _read(file, at, at + length) for name, at, length in found}

    def suffixes_of(self, reference: Reference) -> list[str]:
        """Return the suffixes of a record's files."""
        first, last = self._members(reference)
        return [self.index.names[number] for number in self.index.suffixes[first:last].tolist()]

    def place(self, reference: Reference) -> str:
        """Return where a record is, for messages."""
        byte = int(self.index.offsets[self._members(reference)[0]])
        return f"{self.paths[reference[0]].name}, byte {byte:,}"

    def lost_share(self) -> float:
        """Return the share of all bytes that truncated and damaged files have lost."""
        return float(np.sum(self.index.lost)) / max(1, sum(self._bytes))

    def _members(self, reference: Reference) -> tuple[int, int]:
        """Return the first member of a record in the index, and the one after its last."""
        record = int(self.starts[reference[0]]) + reference[1]
        first, last = self.index.records[record : record + 2].tolist()
        return first, last

    def _open(self, shard: int) -> PositionalFile:
        file = self._files.get(shard)
        if file is None:
            file = self._files[shard] = PositionalFile(self.paths[shard], self._bytes[shard])
            if len(self._files) > _OPEN:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(shard)
        return file


def _read(file: PositionalFile, start: int, stop: int) -> memoryview:
    block = memoryview(bytearray(stop - start))
    file.read_into(block, start)
    return block
