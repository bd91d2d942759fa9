"""Sums, gathers and random draws over ranks.  The world size is read at each call; with one process the value is returned as is.

A rank is what has its own part of the batch: a process, except where several processes hold one model in parts and compute the same
examples (tensor parallelism, ``set_data_group``).  What concerns processes, such as who writes files, asks ``is_main`` and
``processes``.

The pieces of an accumulated step whose examples are compared act as ranks: see ``pieces_as_ranks``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather as _gather_with_gradient

from reprkit.errors import TrainingError

Exchange = Literal["sum", "max", "gather", "gather with gradient"]


class Piece(Protocol):
    """One piece of a step whose pieces act as ranks: its number, how many there are, how it exchanges values with the others."""

    number: int
    pieces: int

    def exchange(self, kind: Exchange, value: Tensor) -> Tensor:
        """Return the result of a collective over all pieces of all processes."""
        ...


# The processes with different examples, one for each rank; None for all.
_data_group: dist.ProcessGroup | None = None
_local_only: ContextVar[bool] = ContextVar("reprkit_local_only", default=False)
_piece: ContextVar[Piece | None] = ContextVar("reprkit_piece", default=None)
_apart: ContextVar[bool] = ContextVar("reprkit_pieces_apart", default=False)
_no_coupling: ContextVar[bool] = ContextVar("reprkit_no_coupling", default=False)


def set_data_group(group: dist.ProcessGroup | None) -> dist.ProcessGroup | None:
    """Let ranks be the processes of a group, which compute different examples; None: all processes.  Return the group before.

    Every process must be in one such group, and processes of equal numbers in their groups get the same examples.
    """
    global _data_group
    before, _data_group = _data_group, group
    return before


def processes() -> int:
    """Return the number of all processes; 1 inside ``local_only``."""
    if _local_only.get() or not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


def is_main() -> bool:
    """Return whether this is the process that writes and prints; true inside ``local_only``."""
    return processes() == 1 or dist.get_rank() == 0


def max_over_processes(value: Tensor) -> Tensor:
    """Return the maximum over all processes, without gradient.  Every process must call it with the same shape."""
    if processes() == 1:
        return value
    largest = value.detach().clone()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest


@contextmanager
def local_only() -> Iterator[None]:
    """Context in which this process acts as the only one: nothing is communicated, and random draws are its own."""
    token = _local_only.set(True)
    try:
        yield
    finally:
        _local_only.reset(token)


@contextmanager
def pieces_as_ranks(piece: Piece) -> Iterator[None]:
    """Context in which this process computes one piece of a step, and each piece of each process acts as a rank of its own.

    Collectives and random draws are then those of the joined batch of all pieces.
    """
    token = _piece.set(piece)
    try:
        yield
    finally:
        _piece.reset(token)


@contextmanager
def pieces_apart() -> Iterator[None]:
    """Context in which collectives join processes only, not the pieces of a step; random draws remain those of the joined batch.

    For statistics that are collected from one piece after another, such as codebooks'.
    """
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


@contextmanager
def no_coupling() -> Iterator[None]:
    """Context in which examples must not be compared: ``gather_with_gradient`` raises a TrainingError."""
    token = _no_coupling.set(True)
    try:
        yield
    finally:
        _no_coupling.reset(token)


def _joined_piece() -> Piece | None:
    return None if _apart.get() or _local_only.get() else _piece.get()


def _data_processes() -> int:
    """Return the number of processes with different examples; 1 inside ``local_only``."""
    if _local_only.get():
        return 1
    return dist.get_world_size(_data_group) if dist.is_available() and dist.is_initialized() else 1


def world_size() -> int:
    """Return the number of ranks; 1 inside ``local_only``."""
    piece = _joined_piece()
    return _data_processes() if piece is None else _data_processes() * piece.pieces


def rank() -> int:
    """Return the number of this rank, from 0."""
    process = dist.get_rank(_data_group) if _data_processes() > 1 else 0
    piece = _joined_piece()
    return process if piece is None else process * piece.pieces + piece.number


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum over all ranks, without gradient.  Every rank must call it with the same shape."""
    piece = _joined_piece()
    if piece is not None:
        return piece.exchange("sum", value.detach())
    if _data_processes() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total, group=_data_group)
    return total


def max_over_ranks(value: Tensor) -> Tensor:
    """Return the maximum over all ranks, without gradient.  Every rank must call it with the same shape."""
    piece = _joined_piece()
    if piece is not None:
        return piece.exchange("max", value.detach())
    if _data_processes() == 1:
        return value
    largest = value.detach().clone()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=_data_group)
    return largest


def gather(value: Tensor) -> Tensor:
    """Concatenate the rows (b ...) of all ranks (w*b ...), without gradient.  Every rank must pass the same shape."""
    piece = _joined_piece()
    if piece is not None:
        return piece.exchange("gather", value.detach())
    if _data_processes() == 1:
        return value
    parts = [torch.empty_like(value) for _ in range(_data_processes())]
    dist.all_gather(parts, value.detach().contiguous(), group=_data_group)
    return torch.cat(parts)


def gather_with_gradient(value: Tensor) -> Tensor:
    """Concatenate the rows of all ranks; the backward pass sums each row's gradient over the ranks that used it."""
    piece = _joined_piece()
    if piece is not None:
        return piece.exchange("gather with gradient", value)
    if _no_coupling.get():
        raise TrainingError(
            "examples are compared here, which pieces of a batch (accumulate=) do not allow unless it is declared: an objective "
            "sets distributes = 'gather', a latent couples_examples = True"
        )
    if _data_processes() == 1:
        return value
    if _data_group is not None:
        gathered: Tensor = _GatherInGroup.apply(value, _data_group)
        return gathered
    return torch.cat(_gather_with_gradient(value.contiguous()))


class _GatherInGroup(torch.autograd.Function):
    """``gather_with_gradient`` in a group of processes, where the backward pass of torch's fails with gloo."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        parts = [torch.empty_like(value) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, value.contiguous(), group=group)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        return total.chunk(dist.get_world_size(ctx.group))[dist.get_rank(ctx.group)], None


def global_draw(draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> Tensor:
    """Draw random values for the global batch of all ranks and return the rows of this rank.

    The loop seeds the generators of all ranks equally, so several processes draw what one process would draw for the global batch.
    """
    token = _apart.set(False)  # draws are joined in any case
    try:
        size, number = world_size(), rank()
    finally:
        _apart.reset(token)
    if size == 1:
        return draw(shape)
    rows = shape[0]
    # A copy: a view would keep the draw of the whole batch in memory until the backward pass.
    return draw((size * rows, *shape[1:]))[number * rows : (number + 1) * rows].clone()
