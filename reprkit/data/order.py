"""The order of the examples in training, a pure function of (seed, step), and the batches in that order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset, mixed
from reprkit.errors import DataError

_ORDER, _WORKERS = 0x6F72646572, 0x776F726B  # keep apart what is drawn from one seed


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

    Raises:
        DataError: fewer examples than one batch, or a batch that the ranks cannot share equally.
    """

    def __init__(self, size: int, batch: int, seed: int = 0, *, ranks: int = 1, rank: int = 0) -> None:
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
        self.size, self.batch, self.seed, self.ranks, self.rank = size, batch, seed, ranks, rank
        self._known: tuple[int, Tensor] | None = None
        mixed(seed)  # a seed that will not do is refused now

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

    def whole(self, step: int) -> Int[Tensor, " b"]:
        """All ranks' indices at a step, one rank's after another's: (batch,), int64."""
        epoch, place = divmod(step, self.per_epoch)
        return self.permutation(epoch)[place * self.batch : (place + 1) * self.batch]

    def permutation(self, epoch: int) -> Int[Tensor, " n"]:
        """All examples in the order of one epoch, counted from 0 (size,)."""
        if self._known is None or self._known[0] != epoch:
            generator = torch.Generator().manual_seed(mixed(self.seed, _ORDER, epoch))
            self._known = epoch, torch.randperm(self.size, generator=generator)
        return self._known[1]

    def since(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Tensor]]:
        """(step, indices) from ``start`` on, to ``stop`` or without end."""
        step = start
        while stop is None or step < stop:
            yield step, self.at(step)
            step += 1

    def __iter__(self) -> Iterator[Tensor]:
        """The indices of every step from the first on, without end."""
        return (indices for _, indices in self.since())


def loader(
    dataset: Dataset,
    order: Order,
    start: int = 0,
    workers: int = 0,
    *,
    stop: int | None = None,
    pin: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """The batches of every step from ``start`` on: the same wherever one starts; without end, or to ``stop``.

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
        DataError: the order was made for a data set of another size.
    """
    if order.size != len(dataset):
        raise DataError(f"the order is of {order.size} examples and {dataset.name} has {len(dataset)}")
    if workers < 0:
        raise DataError(f"workers is the number of processes, from 0, not {workers}")
    # Not a generator itself, so that what is wrong is said now and not at the first batch.
    return (
        _ahead(dataset, order, start, workers, stop, pin)
        if workers
        else _here(dataset, order, start, stop, pin)
    )


def _here(
    dataset: Dataset, order: Order, start: int, stop: int | None, pin: bool
) -> Iterator[dict[str, Tensor]]:
    for _, indices in order.since(start, stop):
        batch = dataset.batch(indices)
        yield {name: value.pin_memory() for name, value in batch.items()} if pin else batch


def _ahead(
    dataset: Dataset, order: Order, start: int, workers: int, stop: int | None, pin: bool
) -> Iterator[dict[str, Tensor]]:
    made: torch.utils.data.DataLoader[dict[str, Tensor]] = torch.utils.data.DataLoader(
        _Seeded(dataset, order.seed, order.rank),
        batch_size=None,
        sampler=_Since(order, start, stop),
        num_workers=workers,
        collate_fn=_same,
        pin_memory=pin,
        # Its own, or the loader would take a draw from the global random state.
        generator=torch.Generator().manual_seed(mixed(order.seed, _WORKERS)),
    )
    yield from made


class _Since:
    """A sampler: (step, indices) from a step on."""

    def __init__(self, order: Order, start: int, stop: int | None) -> None:
        self.order, self.start, self.stop = order, start, stop

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        return self.order.since(self.start, self.stop)


class _Seeded(torch.utils.data.Dataset[dict[str, Tensor]]):
    """In a worker: the batch of a step, made from random states that depend on the step."""

    def __init__(self, dataset: Dataset, seed: int, rank: int) -> None:
        self.dataset, self.seed, self.rank = dataset, seed, rank

    def __getitem__(self, task: tuple[int, Tensor]) -> dict[str, Tensor]:
        step, indices = task
        seed = mixed(self.seed, _WORKERS, step, self.rank)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        return self.dataset.batch(indices)


def _same(batch: Any) -> Any:
    return batch
