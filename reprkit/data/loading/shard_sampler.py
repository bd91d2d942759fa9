"""Sampler of streams whose shards can be read on their own: every rank reads its part of them only."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset, derive_seed
from reprkit.data.loading.order import Order
from reprkit.data.loading.shard_reader import EpochPlan, ShardReader, shuffled_indices
from reprkit.data.loading.shards import Shards, common_readers
from reprkit.data.loading.stream_sampler import SPARES, Group, RankShare
from reprkit.data.loading.workers import Task
from reprkit.errors import DataError

if TYPE_CHECKING:
    from reprkit.data.streams import Stream

_SHARDS, _READER = 0x736861726473, 0x726561646572  # salts


class ShardSampler:
    """Records of each step's batch, of which every rank reads its own only: the counterpart of ``Order`` for shards.

    In every epoch the shards are put in a random order and cut into ``readers`` runs of equal length (``EpochPlan``).  A global
    batch has as many records of each run; a rank has the slice of the batch that it has everywhere else, and so the runs that this
    slice covers.  The readers depend on the batch size and not on the number of ranks or of worker processes, so neither does any
    batch.  An epoch has ``count // batch`` steps; the records that remain, fewer than a batch, are left out of that epoch.

    Args:
        data: the stream.
        shards: its shards.
        batch: number of records in a global batch, over all ranks.
        seed: seed of the order.
        ranks: number of processes.
        rank: rank of this process, from 0.

    Attributes:
        readers: the largest divisor of ``batch`` that is at most the stream's ``readers`` (and the number of shards, if these can
            only be read from their start).
        buffer: size of each reader's shuffle buffer; together they have the stream's ``buffer``.

    Raises:
        DataError: a batch size that is no multiple of ``ranks``, or larger than the number of records.
    """

    joint_padding = True

    def __init__(
        self, data: Stream, shards: Shards, batch: int, seed: int = 0, *, ranks: int = 1, rank: int = 0
    ) -> None:
        Order(max(batch, 1), batch, seed, ranks=ranks, rank=rank)  # validates the arguments
        if shards.count < batch:
            raise DataError(
                f"the {shards.count} records of {data.name} do not fill one batch of {batch}: use a smaller batch="
            )
        if data.buffer < 1 or data.readers < 1:
            raise DataError(
                f"buffer and readers are numbers from 1, not buffer={data.buffer}, readers={data.readers}"
            )
        self.data, self.shards = data, shards
        self.batch, self.seed, self.ranks, self.rank = batch, seed, ranks, rank
        most = min(data.readers, int(np.count_nonzero(shards.sizes))) if shards.whole else data.readers
        self.readers = common_readers(batch, most)
        self.buffer = -(-data.buffer // self.readers)
        self._share = batch // self.readers
        self._spares = max(0, SPARES - self._share)
        self._recent: dict[int, list[int]] = {}

    @property
    def per_epoch(self) -> int:
        """Number of steps in an epoch."""
        return self.shards.count // self.batch

    def at(self, step: int) -> Int[Tensor, " b"]:
        """Return the positions of this rank's records at a step: (batch / ranks,), int64."""
        if step in self._recent:
            return torch.tensor(self._recent[step])
        local = self.batch // self.ranks
        return self.global_batch(step)[self.rank * local : (self.rank + 1) * local]

    def global_batch(self, step: int) -> Int[Tensor, " b"]:
        """Return the positions of all ranks' records at a step: (batch,), int64; reads nothing."""
        epoch, place = divmod(step, self.per_epoch)
        plan, found, first = self._plan(epoch), list[int](), place * self._share
        for reader in range(self.readers):
            order = shuffled_indices(plan.size(reader), self.buffer, self._generator(epoch, reader))
            found += plan.positions(reader, list(islice(order, first, first + self._share)))
        return torch.tensor(found)

    def tasks(self, dataset: Dataset, start: int = 0, stop: int | None = None) -> Iterator[Task]:
        """Yield this rank's task of every step from ``start`` on: the records to decode."""
        local = self.batch // self.ranks
        first, last = self.rank * local, (self.rank + 1) * local
        own = range(first // self._share, -(-last // self._share))
        step, following = start, list[ShardReader]()
        while stop is None or step < stop:
            epoch, place = divmod(step, self.per_epoch)
            readers = following or self._open(epoch, own, place * self._share)
            following = []
            for _ in range(place, self.per_epoch):
                if stop is not None and step >= stop:
                    return
                groups = []
                for index, (number, reader) in enumerate(zip(own, readers, strict=True)):
                    records, begin = reader.take(self._share, self._spares), number * self._share
                    missing = self._share + self._spares - len(records)
                    if missing:  # at the end of an epoch the next one has the replacements
                        following = following or self._open(epoch + 1, own, 0)
                        records += following[index].take(0, missing)
                    groups.append(Group(records, max(first - begin, 0), min(last - begin, self._share)))
                self._remember(step, groups)
                yield step, RankShare(groups, decode_all=False), None
                step += 1

    def _open(self, epoch: int, readers: range, used: int) -> list[ShardReader]:
        """Return readers of an epoch, after as many records of each."""
        plan = self._plan(epoch)
        return [
            ShardReader(plan, each, self.buffer, self._generator(epoch, each), used, self.data.name)
            for each in readers
        ]

    def _remember(self, step: int, groups: list[Group]) -> None:
        self._recent[step] = [item[0] for group in groups for item in group.records[group.start : group.stop]]
        if len(self._recent) > 256:
            del self._recent[next(iter(self._recent))]

    def _plan(self, epoch: int) -> EpochPlan:
        generator = np.random.default_rng(derive_seed(self.seed, _SHARDS, epoch))
        return EpochPlan(self.shards, self.readers, generator)

    def _generator(self, epoch: int, reader: int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self.seed, _READER, epoch, reader))
