"""The readers of an epoch: each has an equal run of the records of the shuffled shards, and shuffles it through a buffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from reprkit.data.loading.shards import Numbers, Shards
from reprkit.errors import DataError, ReprkitError

_DRAWS = 4096  # random numbers that are drawn at a time
Item = tuple[int, Any]  # position, record


class EpochPlan:
    """Which records of an epoch each reader has: the shards in a random order, cut into runs of equal length.

    A run may begin and end within a shard; its length is that of the others, or one more.

    Args:
        shards: the shards.
        readers: number of readers.
        generator: for the order of the shards.
    """

    def __init__(self, shards: Shards, readers: int, generator: np.random.Generator) -> None:
        self.shards = shards
        self._order = generator.permutation(len(shards.sizes))
        self._ends = np.cumsum(shards.sizes[self._order])
        self._bounds = [shards.count * number // readers for number in range(readers + 1)]

    def size(self, reader: int) -> int:
        """Return the number of records of a reader."""
        return self._bounds[reader + 1] - self._bounds[reader]

    def runs(self, reader: int, start: int = 0) -> Iterator[tuple[int, int, Numbers]]:
        """Yield (index in the reader's run, shard, numbers of the records in its file), shard by shard, from an index on."""
        first, last = self._bounds[reader] + start, self._bounds[reader + 1]
        place = int(np.searchsorted(self._ends, first, side="right"))
        while first < last:
            shard, end = int(self._order[place]), int(self._ends[place])
            begin, stop = end - int(self.shards.sizes[shard]), min(end, last)
            if stop > first:
                numbers = self.shards.numbers(shard, first - begin, stop - begin)
                yield first - self._bounds[reader], shard, numbers
            first, place = stop, place + 1

    def positions(self, reader: int, indices: list[int]) -> list[int]:
        """Return the positions in the stream of the records at these indices of a reader's run."""
        found = []
        for index in indices:
            _, shard, numbers = next(self.runs(reader, index))
            found.append(int(self.shards.starts[shard] + numbers[0]))
        return found


def shuffled_indices(length: int, buffer: int, generator: np.random.Generator) -> Iterator[int]:
    """Yield 0 to ``length`` - 1 in the order in which they leave a shuffle buffer."""
    size = min(buffer, length)
    waiting = list(range(size))
    for first in range(size, length, _DRAWS):
        last = min(first + _DRAWS, length)
        for index, draw in zip(
            range(first, last), generator.integers(size, size=last - first).tolist(), strict=True
        ):
            yield waiting[draw]
            waiting[draw] = index
    for draw in generator.permutation(size).tolist():
        yield waiting[draw]


class ShardReader:
    """The records of one reader in the shuffled order of an epoch, from one of them on.

    Reading starts at the earliest record that was not used before.  What was used before is not kept, and not read where the
    shards can be read from any record on.

    Args:
        plan: of the epoch.
        reader: number of the reader.
        buffer: size of its shuffle buffer in records.
        generator: for the shuffle.
        start: number of records that were used before.
        name: of the stream, for messages.
    """

    def __init__(
        self,
        plan: EpochPlan,
        reader: int,
        buffer: int,
        generator: np.random.Generator,
        start: int,
        name: str,
    ) -> None:
        self._plan, self._reader, self._name = plan, reader, name
        self._indices = shuffled_indices(plan.size(reader), buffer, generator)
        self._used = np.zeros(plan.size(reader) + 1, dtype=bool)
        for index in islice(self._indices, start):
            self._used[index] = True
        self._records = self._read(int(np.argmin(self._used)))
        self._held: dict[int, Item] = {}
        self._ahead: deque[Item] = deque()

    def take(self, count: int, more: int) -> list[Item]:
        """Return the next ``count`` records, and up to ``more`` of those after them, which are returned again next time."""
        while len(self._ahead) < count + more:
            index = next(self._indices, None)
            if index is None:
                break
            self._ahead.append(self._fetch(index))
        found = list(islice(self._ahead, count + more))
        for _ in range(min(count, len(self._ahead))):
            self._ahead.popleft()
        return found

    def _fetch(self, index: int) -> Item:
        while index not in self._held:
            place, item = next(self._records)
            if not self._used[place]:
                self._held[place] = item
        return self._held.pop(index)

    def _read(self, start: int) -> Iterator[tuple[int, Item]]:
        """Yield (index, (position, record)) in the order of the files, from an index on.

        Raises:
            DataError: reading fails, or a shard has fewer records than before; names the record.
        """
        shards = self._plan.shards
        for first, shard, numbers in self._plan.runs(self._reader, start):
            records = shards.read(shard, numbers)
            for index, number in enumerate(numbers.tolist(), first):
                position = int(shards.starts[shard]) + number
                yield index, (position, next_record(records, position, self._name))


def next_record(records: Iterator[Any], position: int, name: str) -> Any:
    """Return the next record.

    Raises:
        DataError: it cannot be read, or there is none; names its position.
    """
    try:
        return next(records)
    except StopIteration:
        raise DataError(
            f"record {position} of {name} is no longer there: a file has fewer records than when the data set was made"
        ) from None
    except MemoryError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, ReprkitError) else f"{type(error).__name__}: {error}"
        raise DataError(f"record {position} of {name} cannot be read: {reason}") from error
