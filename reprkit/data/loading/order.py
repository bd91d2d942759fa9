"""The order of the examples in training, a pure function of (seed, step), and the batches in that order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset, derive_seed
from reprkit.data.loading.buckets import WINDOW, bucket_by_length
from reprkit.data.loading.workers import Task, prefetch, make_batch
from reprkit.errors import DataError

if TYPE_CHECKING:
    from reprkit.data.loading.stream_sampler import StreamSampler

_ORDER = 0x6F72646572  # keeps apart what is drawn from one seed


class Order:
    """Which examples are in which step's batch: a new permutation every epoch, cut into global batches.

    Every rank gets a contiguous slice of each global batch, so that the ranks' rows one after another are the
    batch of one process.  Only full batches are used: the ``size % batch`` last examples of an epoch's
    permutation wait for another epoch, in which others do.

    Args:
        size: number of examples.
        batch: examples in a global batch, over all ranks.
        seed: which order.
        ranks: number of processes.
        rank: this process's number, from 0.
        lengths: of the examples (size,): batches of similar ones then, see ``reprkit.data.loading.buckets``; an epoch has the same
            examples as without.
        window: batches that are sorted by length together.

    Raises:
        DataError: fewer examples than one batch, or a batch that the ranks cannot share equally.
    """

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
        self.lengths, self.window = lengths, window
        self._known: tuple[int, Tensor] | None = None
        derive_seed(seed)  # a seed that will not do is refused now

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        return self.size // self.batch

    def at(self, step: int) -> Int[Tensor, " b"]:
        """This rank's indices at a step counted from 0: (batch / ranks,), int64."""
        epoch, place = divmod(step, self.per_epoch)
        local = self.batch // self.ranks
        start = place * self.batch + self.rank * local
        return self.permutation(epoch)[start : start + local]

    def global_batch(self, step: int) -> Int[Tensor, " b"]:
        """All ranks' indices at a step, one rank's after another's: (batch,), int64."""
        epoch, place = divmod(step, self.per_epoch)
        return self.permutation(epoch)[place * self.batch : (place + 1) * self.batch]

    def permutation(self, epoch: int) -> Int[Tensor, " n"]:
        """All examples in the order of one epoch, counted from 0 (size,)."""
        if self._known is None or self._known[0] != epoch:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, _ORDER, epoch))
            order = torch.randperm(self.size, generator=generator)
            if self.lengths is not None:
                used = self.per_epoch * self.batch
                near = bucket_by_length(order[:used], self.lengths, self.batch, self.window, generator)
                order = torch.cat([near, order[used:]])
            self._known = epoch, order
        return self._known[1]

    def steps_from(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """(step, indices) from ``start`` on, to ``stop`` or without end."""
        step = start
        while stop is None or step < stop:
            yield step, self.at(step)
            step += 1

    def tasks(self, dataset: Dataset, start: int = 0, stop: int | None = None) -> Iterable[Task]:
        """What is to be made here at every step from ``start`` on.

        Raises:
            DataError: the order is of another size; several ranks, and lengths that vary and are not known.
        """
        if self.size != len(dataset):
            raise DataError(f"the order is of {self.size} examples and {dataset.name} has {len(dataset)}")
        return _Tasks(self, _lengths(dataset) if self.ranks > 1 else None, start, stop)

    def __iter__(self) -> Iterator[Tensor]:
        """The indices of every step from the first on, without end."""
        return (indices for _, indices in self.steps_from())


def loader(
    dataset: Dataset,
    order: Order | StreamSampler,
    start: int = 0,
    workers: int = 0,
    *,
    stop: int | None = None,
    pin: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """The batches of every step from ``start`` on: the same wherever one starts; without end, or to ``stop``.

    Where lengths vary, all ranks' parts of a batch are as long as the longest example of the whole batch.

    Args:
        dataset: where the examples come from.
        order: which of them, and when.
        start: the first step.
        workers: processes that prepare batches ahead; 0 makes them here, which is fastest for data in memory.
            In a worker every batch starts from random states that depend on (seed, step, rank) only, so
            that random views are the same however many workers there are, and after a resume.
        stop: the step before which to stop.
        pin: put batches into page-locked memory, from which copies to a GPU overlap with computing.

    Raises:
        DataError: the order was made for a data set of another size; several ranks, and a data set whose lengths vary and that
            does not know them; later a batch that cannot be made, naming the example.
    """
    if workers < 0:
        raise DataError(f"workers is the number of processes, from 0, not {workers}")
    tasks = order.tasks(dataset, start, stop)
    # Not a generator itself, so that what is wrong is said now and not at the first batch.
    if workers:
        return prefetch(dataset, tasks, order.seed, order.rank, workers, pin)
    return _here(dataset, tasks, pin)


def _here(dataset: Dataset, tasks: Iterable[Task], pin: bool) -> Iterator[dict[str, Tensor]]:
    for task in tasks:
        batch = make_batch(dataset, task)
        yield {name: value.pin_memory() for name, value in batch.items()} if pin else batch


def _lengths(dataset: Dataset) -> Mapping[str, Tensor] | None:
    """What a rank needs in order to pad as the others do; None where no length varies."""
    if not any(None in field.shape for field in dataset.signature.values()):
        return None
    found = dataset.lengths()
    if found is None:
        raise DataError(
            f"the lengths of {dataset.name} vary, and {type(dataset).__name__} does not know them without making the examples; "
            "several processes need them, to pad a batch alike: define lengths(), or train on one process"
        )
    return found


class _Tasks:
    """What is to be made from a step on; a sampler for torch."""

    def __init__(
        self, order: Order, lengths: Mapping[str, Tensor] | None, start: int, stop: int | None
    ) -> None:
        self.order, self.lengths, self.start, self.stop = order, lengths, start, stop

    def __iter__(self) -> Iterator[Task]:
        for step, indices in self.order.steps_from(self.start, self.stop):
            yield step, indices, None if self.lengths is None else self._longest(self.lengths, step)

    def _longest(self, lengths: Mapping[str, Tensor], step: int) -> dict[str, int]:
        whole = self.order.global_batch(step)
        return {name: int(each[whole].max()) for name, each in lengths.items()}
