"""The nearest code of each vector, exactly, without ever holding all distances: memory O(vectors + codes)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Scores held at a time: on a CPU what stays in cache (4 MB a thread, at most 8), elsewhere 64 MB.
BLOCK_CPU, BLOCK_CPUS, BLOCK_DEVICE = 2**20, 2**21, 2**24
ROWS_CPU, COLUMNS_CPU = 1024, 8192  # the most rows (a thread) and columns of a block
GROUP = 64  # codes whose maximum is taken at once


class _Chunk(NamedTuple):
    """Some of the codes, ready to be scored: x·weight + bias."""

    weight: Tensor
    bias: Tensor
    packed: tuple[Tensor, Tensor] | None  # the same as oneDNN wants them
    first: Tensor | None  # where each row's groups begin; None: no groups


@torch.no_grad()
def nearest(x: Float[Tensor, "m d"], codes: Float[Tensor, "k d"]) -> Int[Tensor, " m"]:
    """Index of the code at the smallest Euclidean distance; ties go to the lowest index.

    Takes argmin |x - e|² as argmax x·e - |e|²/2, block by block in one buffer.  The codes are centred first:
    their mean changes no comparison but would cost digits.  Distances that agree to rounding may be ordered
    either way.
    """
    if torch.compiler.is_exporting():  # a graph for any number of vectors: all scores at once
        (chunk,) = _make_chunks(codes.to(x.dtype), len(codes), 0, fast=False)
        return torch.addmm(chunk.bias, x, chunk.weight.T).argmax(1).clamp(max=len(codes) - 1)
    rows, width = _block_shape(len(codes), x.device)
    fast = len(x) >= rows and _use_onednn(x)
    chunks = _make_chunks(codes.to(x.dtype), width, rows, fast)
    if fast:
        # glibc gives freed blocks back, and pays for new pages each time, until a larger one was freed once.
        x.new_empty(7 * 2**20)
    buffer: Tensor | None = None
    found = torch.empty(len(x), dtype=torch.int64, device=x.device)
    for block, out in zip(x.split(rows), found.split(rows), strict=True):
        highest, begin = None, 0
        for chunk in chunks:
            # oneDNN compiles a kernel for each shape, so a block of odd size takes the plain way.
            if chunk.packed and len(block) == rows:
                scores = F.linear(block.to_mkldnn(), *chunk.packed).to_dense()
            else:
                buffer = x.new_empty(len(block) * len(chunks[0].weight)) if buffer is None else buffer
                scores = buffer[: len(block) * len(chunk.weight)].view(len(block), -1)
                torch.addmm(chunk.bias, block, chunk.weight.T, out=scores)
            value, place = _row_maximum(scores, chunk.first)
            if highest is None:
                highest = value
                out.copy_(place)
            else:
                torch.where(value > highest, place + begin, out, out=out)
                highest = torch.maximum(highest, value)
            begin += len(chunk.weight)
    return found.clamp_(max=len(codes) - 1)  # a vector that is not finite may have found a column beyond


def _block_shape(codes: int, device: torch.device) -> tuple[int, int]:
    """Rows and columns of the scores that are held at a time."""
    if device.type != "cpu":
        return max(1, BLOCK_DEVICE // codes), codes
    threads, width = torch.get_num_threads(), min(codes, COLUMNS_CPU)
    return min(min(BLOCK_CPU * threads, BLOCK_CPUS) // width, ROWS_CPU * threads), width


def _make_chunks(codes: Tensor, width: int, rows: int, fast: bool) -> list[_Chunk]:
    """The codes as chunks of ``width`` columns, filled up to whole groups where groups are used."""
    mean = codes.mean(0)
    weight = codes - mean
    bias = (weight * (mean + weight / 2)).sum(-1).neg_()
    grouped = codes.device.type == "cpu" and len(codes) >= 4 * GROUP
    spare = -len(codes) % GROUP if grouped else 0
    if spare:
        weight, bias = F.pad(weight, (0, 0, 0, spare)), F.pad(bias, (0, spare), value=-torch.inf)
    made = []
    width += -width % GROUP if grouped else 0
    for each, shift in zip(weight.split(width), bias.split(width), strict=True):
        first = torch.arange(rows) * (len(each) // GROUP) if grouped else None
        made.append(_Chunk(each, shift, (each.to_mkldnn(), shift.to_mkldnn()) if fast else None, first))
    return made


def _row_maximum(scores: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each row's maximum and its first place.

    On a CPU ``max`` with a place is a scalar loop and ``amax`` a vectorised one: so the groups' maxima first,
    then the place within the best group.
    """
    if first is None:
        highest, place = scores.max(1)
        return highest, place
    split = scores.view(-1, GROUP)
    highest, group = split.amax(1).view(len(scores), -1).max(1)
    _, place = split.index_select(0, first[: len(scores)] + group).max(1)
    return highest, place.add_(group, alpha=GROUP)


def _use_onednn(x: Tensor) -> bool:
    """Whether to multiply by oneDNN: with AVX-512 up to twice as fast as MKL on another maker's chips."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] >= 16
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and not torch.compiler.is_compiling()
    )
