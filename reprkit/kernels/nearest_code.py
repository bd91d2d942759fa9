"""Exact nearest-code search without storing all distances: memory O(vectors + codes)."""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Scores stored at a time: on a CPU what fits into the cache (4 MB a thread, at most 8), elsewhere 64 MB.
BLOCK_CPU, BLOCK_CPUS, BLOCK_DEVICE = 2**20, 2**21, 2**24
ROWS_CPU, COLUMNS_CPU = 1024, 8192  # maximal rows (per thread) and columns of a block
GROUP = 64  # codes whose maximum is computed at once


class _Chunk(NamedTuple):
    """A chunk of the codes, prepared for the scores x·weight + bias."""

    weight: Tensor
    bias: Tensor
    packed: tuple[Tensor, Tensor] | None  # weight and bias in oneDNN's layout
    first: Tensor | None  # index of each row's first group; None: no groups


@torch.no_grad()
def nearest(x: Float[Tensor, "m d"], codes: Float[Tensor, "k d"]) -> Int[Tensor, " m"]:
    """Return the index of the code at the smallest Euclidean distance; ties go to the lowest index.

    Computes argmin |x - e|² as argmax x·e - |e|²/2, block by block in one buffer.  The codes are centered first:
    their mean affects no comparison but would cost precision.  Distances that are equal up to rounding may be
    ordered either way.
    """
    if torch.compiler.is_exporting():  # the graph must allow any number of vectors: all scores at once
        (chunk,) = _make_chunks(codes.to(x.dtype), len(codes), 0, fast=False)
        return torch.addmm(chunk.bias, x, chunk.weight.T).argmax(1).clamp(max=len(codes) - 1)
    rows, width = _block_shape(len(codes), x.device)
    fast = len(x) >= rows and _use_onednn(x)
    chunks = _make_chunks(codes.to(x.dtype), width, rows, fast)
    if fast:
        # glibc returns freed blocks to the system, and pays for new pages each time, until it has freed a larger one.
        x.new_empty(7 * 2**20)
    buffer: Tensor | None = None
    indices = torch.empty(len(x), dtype=torch.int64, device=x.device)
    for block, out in zip(x.split(rows), indices.split(rows), strict=True):
        highest, begin = None, 0
        for chunk in chunks:
            # oneDNN compiles a kernel for each shape, so a block of another size uses addmm.
            if chunk.packed and len(block) == rows:
                scores = F.linear(block.to_mkldnn(), *chunk.packed).to_dense()
            else:
                buffer = x.new_empty(len(block) * len(chunks[0].weight)) if buffer is None else buffer
                scores = buffer[: len(block) * len(chunk.weight)].view(len(block), -1)
                torch.addmm(chunk.bias, block, chunk.weight.T, out=scores)
            value, index = _row_maximum(scores, chunk.first)
            if highest is None:
                highest = value
                out.copy_(index)
            else:
                torch.where(value > highest, index + begin, out, out=out)
                highest = torch.maximum(highest, value)
            begin += len(chunk.weight)
    return indices.clamp_(max=len(codes) - 1)  # a non-finite vector may have matched a padding column


def _block_shape(codes: int, device: torch.device) -> tuple[int, int]:
    """Return the rows and columns of the scores that are stored at a time."""
    if device.type != "cpu":
        return max(1, BLOCK_DEVICE // codes), codes
    threads, width = torch.get_num_threads(), min(codes, COLUMNS_CPU)
    return min(min(BLOCK_CPU * threads, BLOCK_CPUS) // width, ROWS_CPU * threads), width


def _make_chunks(codes: Tensor, width: int, rows: int, fast: bool) -> list[_Chunk]:
    """Split the codes into chunks of ``width`` columns, padded to whole groups where groups are used."""
    mean = codes.mean(0)
    weight = codes - mean
    bias = (weight * (mean + weight / 2)).sum(-1).neg_()
    grouped = codes.device.type == "cpu" and len(codes) >= 4 * GROUP
    spare = -len(codes) % GROUP if grouped else 0
    if spare:
        weight, bias = F.pad(weight, (0, 0, 0, spare)), F.pad(bias, (0, spare), value=-torch.inf)
    chunks = []
    width += -width % GROUP if grouped else 0
    for part, shift in zip(weight.split(width), bias.split(width), strict=True):
        first = torch.arange(rows) * (len(part) // GROUP) if grouped else None
        chunks.append(_Chunk(part, shift, (part.to_mkldnn(), shift.to_mkldnn()) if fast else None, first))
    return chunks


def _row_maximum(scores: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return each row's maximum and its first index.

    On a CPU ``max`` with an index is a scalar loop and ``amax`` a vectorized one: so the groups' maxima come first,
    then the index within the best group.
    """
    if first is None:
        highest, index = scores.max(1)
        return highest, index
    split = scores.view(-1, GROUP)
    highest, group = split.amax(1).view(len(scores), -1).max(1)
    _, index = split.index_select(0, first[: len(scores)] + group).max(1)
    return highest, index.add_(group, alpha=GROUP)


def _use_onednn(x: Tensor) -> bool:
    """Return whether to multiply with oneDNN.

    With AVX-512 it is up to twice as fast as MKL on CPUs that are not Intel's; on Intel's MKL takes three quarters of its time.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] >= 16
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and not _is_intel()
    )


@functools.cache
def _is_intel() -> bool:
    try:
        vendor = Path("/proc/cpuinfo").read_text()
    except OSError:  # not on Linux
        vendor = platform.processor()
    return "GenuineIntel" in vendor
