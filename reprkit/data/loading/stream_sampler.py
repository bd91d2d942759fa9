"""Sampler of streams: the records of each step's batch, and the share of each rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.loading.order import Order
from reprkit.data.loading.workers import Task
from reprkit.errors import DataError

if TYPE_CHECKING:
    from reprkit.data.streams import Stream

SPARES = 8  # consecutive unreadable records in a batch that can be replaced


@dataclass(frozen=True)
class Group:
    """Consecutive records of a batch, of which a rank decodes some; an unreadable one is replaced by the next readable one.

    Attributes:
        records: (position, record); after the last one comes the first.
        start: index of the rank's first record.
        stop: index after its last one.
    """

    records: list[tuple[int, Any]]
    start: int
    stop: int


@dataclass(frozen=True)
class RankShare:
    """One rank's share of a global batch: the records of its groups, concatenated.

    Attributes:
        groups: the rank's own records, and others as replacements for unreadable ones.
        decode_all: whether all records must be decoded, because lengths vary and all ranks pad to the longest.
    """

    groups: list[Group]
    decode_all: bool


class StreamSampler:
    """Records of each step's batch, for a stream that is read from its start: every rank reads all records; see ``Stream``.

    Args:
        data: the stream.
        batch: number of records in a global batch, over all ranks.
        seed: seed of the order.
        ranks: number of processes.
        rank: rank of this process, from 0.

    Raises:
        DataError: a batch size that is no multiple of ``ranks``.
    """

    joint_padding = False

    def __init__(self, data: Stream, batch: int, seed: int = 0, *, ranks: int = 1, rank: int = 0) -> None:
        Order(max(batch, 1), batch, seed, ranks=ranks, rank=rank)  # validates the arguments
        self.data, self.batch, self.seed, self.ranks, self.rank = data, batch, seed, ranks, rank
        self._steps: int | None = None  # steps per epoch, once an epoch was read
        self._recent: dict[int, list[int]] = {}

    def at(self, step: int) -> Int[Tensor, " b"]:
        """Return the positions of this rank's records at a step: (batch / ranks,), int64."""
        local = self.batch // self.ranks
        return self.global_batch(step)[self.rank * local : (self.rank + 1) * local]

    def global_batch(self, step: int) -> Int[Tensor, " b"]:
        """Return the positions of all ranks' records at a step: (batch,), int64; reads the stream unless the step is recent."""
        positions = self._recent.get(step)
        if positions is None:
            positions = [position for position, _ in next(self._batches(step))[1]]
        return torch.tensor(positions)

    def tasks(self, dataset: Dataset, start: int = 0, stop: int | None = None) -> Iterator[Task]:
        """Yield this rank's task of every step from ``start`` on: the records to decode."""
        local = self.batch // self.ranks
        decode_all = self.ranks > 1 and bool(dataset.signature.varying_fields())
        count = self.batch if decode_all else min(local + SPARES, self.batch)
        for step, records in self._batches(start):
            if stop is not None and step >= stop:
                return
            self._recent[step] = [position for position, _ in records]
            if len(self._recent) > 256:
                del self._recent[next(iter(self._recent))]
            first = self.rank * local
            cyclic = [*records[first:], *records[:first]]
            yield step, RankShare([Group(cyclic[:count], 0, local)], decode_all), None

    def _batches(self, start: int) -> Iterator[tuple[int, list[tuple[int, Any]]]]:
        """Yield (step, global batch) from a step on, without end."""
        step = start
        epoch, skip = (0, start) if self._steps is None else divmod(start, self._steps)
        while True:
            count, batch = 0, list[tuple[int, Any]]()
            for item in self.data.shuffled_records(self.seed, epoch):
                batch.append(item)
                if len(batch) == self.batch:
                    count += 1
                    if count > skip:
                        yield step, batch
                        step += 1
                    batch = []
            if not count:
                raise DataError(
                    f"the {len(batch)} records of {self.data.name} do not fill one batch of {self.batch}: use a smaller batch="
                )
            self._steps = count
            # Only now is the length of an epoch known, and with it how many whole epochs to skip.
            epochs, skip = divmod(max(skip - count, 0), count)
            epoch += 1 + epochs
