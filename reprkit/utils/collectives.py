"""Sums, gathers and random draws over ranks.  The world size is read at each call; with one process the value is returned as is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather as _gather_with_gradient

_local_only: ContextVar[bool] = ContextVar("reprkit_local_only", default=False)


@contextmanager
def local_only() -> Iterator[None]:
    """Context in which this process acts as the only one: nothing is communicated, and random draws are its own."""
    token = _local_only.set(True)
    try:
        yield
    finally:
        _local_only.reset(token)


def world_size() -> int:
    """Return the number of processes; 1 inside ``local_only``."""
    if _local_only.get():
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum over all ranks, without gradient.  Every rank must call it with the same shape."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def max_over_ranks(value: Tensor) -> Tensor:
    """Return the maximum over all ranks, without gradient.  Every rank must call it with the same shape."""
    if world_size() == 1:
        return value
    largest = value.detach().clone()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest


def gather(value: Tensor) -> Tensor:
    """Concatenate the rows (b ...) of all ranks (w*b ...), without gradient.  Every rank must pass the same shape."""
    if world_size() == 1:
        return value
    parts = [torch.empty_like(value) for _ in range(world_size())]
    dist.all_gather(parts, value.detach().contiguous())
    return torch.cat(parts)


def gather_with_gradient(value: Tensor) -> Tensor:
    """Concatenate the rows of all ranks; the backward pass sums each row's gradient over the ranks that used it."""
    return value if world_size() == 1 else torch.cat(_gather_with_gradient(value.contiguous()))


def global_draw(draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> Tensor:
    """Draw random values for the global batch of all ranks and return the rows of this rank.

    The loop seeds the generators of all ranks equally, so several processes draw what one process would draw for the global batch.
    """
    size = world_size()
    if size == 1:
        return draw(shape)
    rows = shape[0]
    return draw((size * rows, *shape[1:]))[rank() * rows : (rank() + 1) * rows]
