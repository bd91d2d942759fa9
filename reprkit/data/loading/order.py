"""Order of the examples in training, a pure function of (seed, step), and the loader of batches in that order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset, derive_seed
from reprkit.data.loading.buckets import WINDOW, bucket_by_length
from reprkit.data.loading.joint_padding import pad_jointly
from reprkit.data.loading.mates import order_mates
from reprkit.data.loading.workers import Task, make_batch, prefetch
from reprkit.errors import DataError

if TYPE_CHECKING:
    from reprkit.data.loading.shard_sampler import ShardSampler
    from reprkit.data.loading.stream_sampler import StreamSampler

_ORDER = 0x6F72646572  # salt: splits and workers have the same seed


class Order:
    """Indices of the examples in each step's batch: a new permutation every epoch, cut into global batches.

    Every rank gets a contiguous slice of each global batch: the concatenation over ranks is the batch of a
    single process.  Only full batches are used: the last ``size % batch`` examples of an epoch's permutation
    are left out of that epoch; other epochs leave out others.

    Args:
        size: number of examples.
        batch: number of examples in a global batch, over all ranks.
        seed: seed of the order.
        ranks: number of processes.
        rank: rank of this process, from 0.
        lengths: lengths of the examples (size,), for batches of similar lengths, see ``reprkit.data.loading.buckets``; an epoch
            has the same examples as without.
        window: number of batches that are sorted by length together.
        groups: the group of each example (size,); ``mates`` of one group are in a row, see ``reprkit.data.loading.mates``.
        mates: examples of a group in a row, from 2.

    Raises:
        DataError: fewer examples than one batch, a batch size that is no multiple of ``ranks``, or of ``mates`` where there are
            groups; lengths and groups together.
    """

    joint_padding = False  # a rank knows the lengths of the others' examples

    def __init__(
        self,
        size: int,
        batch: int,
        seed: int = 0,
        *,
        ranks: int = 1,
        rank: int = 0,
        lengths: Int[Tensor, " n"] | None = None,
        window: int = WINDOW,
        groups: Int[Tensor, " n"] | None = None,
        mates: int = 2,
    ) -> None:
        if batch < 1 or ranks < 1 or not 0 <= rank < ranks:
            raise DataError(
                f"batch={batch}, ranks={ranks}, rank={rank}: batch and ranks from 1, rank below ranks"
            )
        if size < batch:
            raise DataError(
                f"{size} examples do not fill one batch of {batch}: give batch={size} or fewer, or more data"
            )
        if batch % ranks:
            raise DataError(
                f"a batch of {batch} cannot be shared equally by {ranks} processes; make it a multiple: "
                f"{batch // ranks * ranks or ranks} or {(batch // ranks + 1) * ranks}"
            )
        if window < 1:
            raise DataError(f"a window of buckets has at least 1 batch, not {window}")
        self.size, self.batch, self.seed, self.ranks, self.rank = size, batch, seed, ranks, rank
        if groups is not None and (mates < 2 or batch % mates):
            raise DataError(f"a batch of {batch} does not hold whole rows of mates={mates}, which is from 2")
        if groups is not None and lengths is not None:
            raise DataError(
                "a batch holds examples of similar lengths or mates of a group: give buckets= or groups="
            )
        self.lengths, self.window = lengths, window
        self.groups, self.mates = groups, mates
        self._cached: tuple[int, Tensor] | None = None  # the last epoch and its permutation
        derive_seed(seed)  # raises now if the seed is invalid

    @property
    def per_epoch(self) -> int:
        """Number of steps in an epoch."""
        return self.size // self.batch

    def at(self, step: int) -> Int[Tensor, " b"]:
        """Return this rank's indices at a step, counted from 0: (batch / ranks,), int64."""
        epoch, position = divmod(step, self.per_epoch)
        local = self.batch // self.ranks
        start = position * self.batch + self.rank * local
        return self.permutation(epoch)[start : start + local]

    def global_batch(self, step: int) -> Int[Tensor, " b"]:
        """Return all ranks' indices at a step, concatenated in the order of ranks: (batch,), int64."""
        epoch, position = divmod(step, self.per_epoch)
        return self.permutation(epoch)[position * self.batch : (position + 1) * self.batch]

    def permutation(self, epoch: int) -> Int[Tensor, " n"]:
        """Return all indices in the order of an epoch, counted from 0: (size,)."""
        if self._cached is None or self._cached[0] != epoch:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, _ORDER, epoch))
            order = torch.randperm(self.size, generator=generator)
            if self.lengths is not None:
                used = self.per_epoch * self.batch
                bucketed = bucket_by_length(order[:used], self.lengths, self.batch, self.window, generator)
                order = torch.cat([bucketed, order[used:]])
            if self.groups is not None:
                order = order_mates(order, self.groups, self.mates, generator)
            self._cached = epoch, order
        return self._cached[1]

    def steps_from(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield (step, indices) from ``start`` on, up to ``stop`` or without end."""
        step = start
        while stop is None or step < stop:
            yield step, self.at(step)
            step += 1

    def tasks(self, dataset: Dataset, start: int = 0, stop: int | None = None) -> Iterable[Task]:
        """Return this rank's tasks of every step from ``start`` on.

        Raises:
            DataError: the order is for another number of examples; several ranks, and varying lengths that are unknown.
        """
        if self.size != len(dataset):
            raise DataError(f"the order is for {self.size} examples and {dataset.name} has {len(dataset)}")
        return _Tasks(self, _padding_lengths(dataset) if self.ranks > 1 else None, start, stop)

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the indices of every step from the first on, without end."""
        return (indices for _, indices in self.steps_from())


def loader(
    dataset: Dataset,
    order: Order | StreamSampler | ShardSampler,
    start: int = 0,
    workers: int = 0,
    *,
    stop: int | None = None,
    pin: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Iterate over the batches of every step from ``start`` on, up to ``stop`` or without end.

    The batch of a step does not depend on ``start``.  Where lengths vary, all ranks pad to the longest example of the global batch.

    Args:
        dataset: source of the examples.
        order: order of the examples.
        start: the first step.
        workers: number of processes that prefetch batches; 0 loads them in this process, which is fastest for data
            in memory.  In a worker every batch starts from random states that depend on (seed, step, rank) only,
            so that random views depend neither on the number of workers nor on resuming.
        stop: the step before which to stop.
        pin: copy batches to page-locked memory, from which copies to a GPU overlap with computation.

    Raises:
        DataError: the order is for a data set of another size; several ranks, and a data set of varying lengths that does not
            know them; while iterating, a batch that cannot be loaded (names the example).
    """
    if workers < 0:
        raise DataError(f"workers is a number of processes from 0, not {workers}")
    tasks = order.tasks(dataset, start, stop)
    # Not a generator itself, so that errors are raised now and not at the first batch.
    if workers:
        batches = prefetch(dataset, tasks, order.seed, order.rank, workers, pin)
    else:
        batches = _load_here(dataset, tasks, pin)
    joint = order.joint_padding and order.ranks > 1 and dataset.signature.varying_fields()
    return pad_jointly(batches, dataset.signature, order.ranks) if joint else batches


def _load_here(dataset: Dataset, tasks: Iterable[Task], pin: bool) -> Iterator[dict[str, Tensor]]:
    for task in tasks:
        batch = make_batch(dataset, task)
        yield {name: value.pin_memory() for name, value in batch.items()} if pin else batch


def _padding_lengths(dataset: Dataset) -> Mapping[str, Tensor] | None:
    """Return the lengths that a rank needs to pad like the others; None where no length varies."""
    if not dataset.signature.varying_fields():
        return None
    lengths = dataset.lengths()
    if lengths is None:
        raise DataError(
            f"the lengths of {dataset.name} vary, and {type(dataset).__name__} does not know them without loading the examples; "
            "several processes need them to pad batches alike: define lengths(), or train on one process"
        )
    return lengths


class _Tasks:
    """Tasks of the steps from ``start`` on, as a sampler for torch."""

    def __init__(
        self, order: Order, lengths: Mapping[str, Tensor] | None, start: int, stop: int | None
    ) -> None:
        self.order, self.lengths, self.start, self.stop = order, lengths, start, stop

    def __iter__(self) -> Iterator[Task]:
        for step, indices in self.order.steps_from(self.start, self.stop):
            yield step, indices, None if self.lengths is None else self._longest(self.lengths, step)

    def _longest(self, lengths: Mapping[str, Tensor], step: int) -> dict[str, int]:
        indices = self.order.global_batch(step)
        return {name: int(values[indices].max()) for name, values in lengths.items()}
