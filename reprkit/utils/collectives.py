"""Sums, gathers and draws over ranks; each asks for the world when it is called, and is the plain value in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather as _gather_with_gradient

_alone: ContextVar[bool] = ContextVar("reprkit_alone", default=False)


@contextmanager
def local_only() -> Iterator[None]:
    """A block in which this process works for itself: nothing is exchanged, and draws are its own."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def world_size() -> int:
    """How many processes take part."""
    if _alone.get():
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum over all ranks, without gradient.  Every rank must call it, with the same shape."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def max_over_ranks(value: Tensor) -> Tensor:
    """The largest value over all ranks, without gradient.  Every rank must call it, with the same shape."""
    if world_size() == 1:
        return value
    largest = value.detach().clone()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest


def gather(value: Tensor) -> Tensor:
    """All ranks' rows (b ...) one after another (w*b ...), without gradient.  Every rank must give the same shape."""
    if world_size() == 1:
        return value
    parts = [torch.empty_like(value) for _ in range(world_size())]
    dist.all_gather(parts, value.detach().contiguous())
    return torch.cat(parts)


def gather_with_gradient(value: Tensor) -> Tensor:
    """All ranks' rows one after another; the backward sums each row's gradient over the ranks that used it."""
    return value if world_size() == 1 else torch.cat(_gather_with_gradient(value.contiguous()))


def global_draw(draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> Tensor:
    """A random draw for the joined batch of all ranks, of which this rank takes its rows.

    With equal generators on all ranks (which the loop sees to) two processes then draw what one would on the joined batch.
    """
    size = world_size()
    if size == 1:
        return draw(shape)
    rows = shape[0]
    return draw((size * rows, *shape[1:]))[rank() * rows : (rank() + 1) * rows]
