"""Shards of a stream: parts that can be read on their own, with known numbers of records."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64

Numbers = Int64[np.ndarray, " n"]


class Shards:
    """Base class of shards.  A subclass sets ``sizes`` and ``starts`` and defines ``read``.

    A record has a number in its shard, from 0, and a position in the stream: ``starts[shard] + number``.

    Attributes:
        sizes: number of records of each shard (s,).
        starts: position of the first record of each shard (s,).
        whole: whether a shard is read from its start even if only its last records are wanted (a row group of Parquet, not a tar
            file).  Then the order reads no more shards at a time than there are.
    """

    sizes: Numbers
    starts: Numbers
    whole: bool = False

    def read(self, shard: int, numbers: Numbers) -> Iterator[Any]:
        """Yield the records of a shard with these numbers, which ascend.

        A record is what ``Stream.decode`` takes: it must be picklable.  A reference is enough where it tells where the record is;
        it is then read by the process that decodes it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define read")

    def numbers(self, shard: int, start: int, stop: int) -> Numbers:
        """Return the numbers in the file of the records ``start`` to ``stop`` of a shard."""
        return np.arange(start, stop)

    @property
    def count(self) -> int:
        """Number of records."""
        return int(self.sizes.sum())


class SelectedShards(Shards):
    """The records of other shards whose hash lies between two bounds: see ``Stream.split``."""

    def __init__(self, shards: Shards, bounds: tuple[float, float], salt: int) -> None:
        self._shards, self._bounds, self._salt = shards, bounds, salt
        self.starts, self.whole = shards.starts, shards.whole
        self._last: tuple[int, Numbers] | None = None
        self.sizes = np.array([len(self._chosen(shard)) for shard in range(len(shards.sizes))], np.int64)

    def read(self, shard: int, numbers: Numbers) -> Iterator[Any]:
        """Yield the records with these numbers."""
        return self._shards.read(shard, numbers)

    def numbers(self, shard: int, start: int, stop: int) -> Numbers:
        """Return the numbers in the file of the chosen records ``start`` to ``stop``."""
        return self._chosen(shard)[start:stop]

    def _chosen(self, shard: int) -> Numbers:
        if self._last is None or self._last[0] != shard:
            numbers = self._shards.numbers(shard, 0, int(self._shards.sizes[shard]))
            hashed = hash_positions(self.starts[shard] + numbers, self._salt)
            low, high = self._bounds
            self._last = shard, numbers[(low <= hashed) & (hashed < high)]
        return self._last[1]


def hash_positions(positions: Numbers, salt: int) -> np.ndarray:
    """Hash positions (n,) to numbers in [0, 1) (splitmix64: Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        value = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.ldexp(((value ^ (value >> np.uint64(31))) >> np.uint64(11)).astype(np.float64), -53)


def hash_position(position: int, salt: int) -> float:
    """Hash one position as ``hash_positions`` does."""
    full = (1 << 64) - 1
    value = (position * 0x9E3779B97F4A7C15 + salt) & full
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & full
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & full
    return math.ldexp((value ^ (value >> 31)) >> 11, -53)


def starts_of(sizes: Numbers) -> Numbers:
    """Return the position of the first record of each shard, in stored order."""
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)


def common_readers(batch: int, most: int) -> int:
    """Return the largest divisor of a batch size that is at most ``most``."""
    small = [number for number in range(1, math.isqrt(batch) + 1) if batch % number == 0]
    return max(number for each in small for number in (each, batch // each) if number <= max(most, 1))
