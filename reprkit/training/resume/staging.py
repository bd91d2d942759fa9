"""Copy what a rank writes into one buffer of host memory, which is kept between saves: the only part of a save that stalls a step.

The buffer's bytes are those of the file that is written from it, so that nothing is copied again.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reprkit.training.monitor import non_finite
from reprkit.training.resume.division import WEIGHT, Chunk


@dataclass(frozen=True)
class StagedChunk:
    """A chunk in the buffer, see ``division.Chunk``: its bytes are ``start`` to ``stop``."""

    key: str
    dtype: torch.dtype
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    start: int
    stop: int


class Staging:
    """The buffer of one rank.

    Args:
        device: of the tensors; for a GPU the memory is page-locked, and all copies run before the first one is waited for.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.buffer = torch.empty(0, dtype=torch.uint8)

    def reserve(self, size: int) -> None:
        """Allocate the buffer, and touch its pages: at the first write to each page the system would clear it."""
        if size > self.buffer.numel():
            self.buffer = _allocate(size, self._device)
            self.buffer.zero_()

    @torch.no_grad()
    def stage(self, chunks: Iterable[Chunk]) -> dict[str, StagedChunk]:
        """Copy the chunks into the buffer; return their places by name."""
        # Larger elements first: each chunk is then aligned, without gaps, which the file's format does not allow.
        ordered = sorted(chunks, key=lambda chunk: -chunk.values.element_size())
        size = staged_bytes(ordered)
        if size > self.buffer.numel():
            self.buffer = _allocate(size, self._device)
        staged, start = {}, 0
        for chunk in ordered:
            values = chunk.values
            stop = start + values.numel() * values.element_size()
            _copy(self.buffer[start:stop].view(values.dtype).view(values.shape), values)
            staged[chunk.key] = StagedChunk(
                chunk.key, values.dtype, chunk.offsets, tuple(values.shape), chunk.shape, start, stop
            )
            start = stop
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return staged


def non_finite_weights(staged: Iterable[StagedChunk], buffer: Tensor) -> list[str]:
    """Return the names of staged parameters of the model that are not finite."""
    weights = (
        (chunk.key.removeprefix(WEIGHT), buffer[chunk.start : chunk.stop].view(chunk.dtype))
        for chunk in staged
        if chunk.key.startswith(WEIGHT)
    )
    return non_finite.non_finite_names(weights)


def _copy(target: Tensor, source: Tensor) -> None:
    if source.device.type == "cpu" and source.is_contiguous():
        # The C library writes large blocks past the caches, unlike torch, in two thirds of the time.
        ctypes.memmove(target.data_ptr(), source.data_ptr(), source.numel() * source.element_size())
    else:
        target.copy_(source, non_blocking=True)


def staged_bytes(chunks: Sequence[Chunk]) -> int:
    """Return the bytes of the chunks."""
    return sum(chunk.values.numel() * chunk.values.element_size() for chunk in chunks)


def _allocate(size: int, device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)
