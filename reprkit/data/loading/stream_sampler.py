"""Which records of a stream are in which step's batch, and what each process gets of them."""

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

SPARES = 8  # unreadable records one after another in a batch that are made up for


@dataclass(frozen=True)
class RankShare:
    """What a process gets of a global batch: the batch's records in a circle, from its own first on.

    Attributes:
        records: (position, record): its own, and those that come next, in case some cannot be read.
        own: how many are its own.
        size: records in the global batch.
        whole: all must be decoded, because lengths vary and all processes pad to the longest.
    """

    records: list[tuple[int, Any]]
    own: int
    size: int
    whole: bool


class StreamSampler:
    """Which records are in which step's batch: as ``Order``, for a stream; see ``Stream``.

    Args:
        data: the stream.
        batch: records in a global batch, over all ranks.
        seed: which order.
        ranks: number of processes.
        rank: this process's number, from 0.

    Raises:
        DataError: a batch that the ranks cannot share equally.
    """

    def __init__(self, data: Stream, batch: int, seed: int = 0, *, ranks: int = 1, rank: int = 0) -> None:
        Order(max(batch, 1), batch, seed, ranks=ranks, rank=rank)  # its rules
        self.data, self.batch, self.seed, self.ranks, self.rank = data, batch, seed, ranks, rank
        self._steps: int | None = None  # in an epoch, once one was read
        self._recent: dict[int, list[int]] = {}

    def at(self, step: int) -> Int[Tensor, " b"]:
        """The positions of this rank's records at a step: (batch / ranks,), int64."""
        local = self.batch // self.ranks
        return self.global_batch(step)[self.rank * local : (self.rank + 1) * local]

    def global_batch(self, step: int) -> Int[Tensor, " b"]:
        """The positions of all ranks' records at a step: (batch,), int64; reads for it unless it was dealt out lately."""
        known = self._recent.get(step)
        return torch.tensor(
            known if known is not None else [place for place, _ in next(self._batches(step))[1]]
        )

    def tasks(self, dataset: Dataset, start: int = 0, stop: int | None = None) -> Iterator[Task]:
        """What is to be decoded here at every step from ``start`` on."""
        local = self.batch // self.ranks
        whole = self.ranks > 1 and any(None in field.shape for field in dataset.signature.values())
        count = self.batch if whole else min(local + SPARES, self.batch)
        for step, records in self._batches(start):
            if stop is not None and step >= stop:
                return
            self._recent[step] = [position for position, _ in records]
            if len(self._recent) > 256:
                del self._recent[next(iter(self._recent))]
            first = self.rank * local
            circle = [*records[first:], *records[:first]]
            yield step, RankShare(circle[:count], local, self.batch, whole), None

    def _batches(self, start: int) -> Iterator[tuple[int, list[tuple[int, Any]]]]:
        """(step, the global batch) from a step on, without end."""
        step = start
        epoch, before = (0, start) if self._steps is None else divmod(start, self._steps)
        while True:
            count, gathered = 0, list[tuple[int, Any]]()
            for item in self.data.shuffled_records(self.seed, epoch):
                gathered.append(item)
                if len(gathered) == self.batch:
                    count += 1
                    if count > before:
                        yield step, gathered
                        step += 1
                    gathered = []
            if not count:
                raise DataError(
                    f"the {len(gathered)} records of {self.data.name} do not fill one batch of {self.batch}: take a smaller batch="
                )
            self._steps = count
            # A start beyond the first epoch is found out here; then it is known how many epochs to leave out.
            further, before = divmod(max(before - count, 0), count)
            epoch += 1 + further
