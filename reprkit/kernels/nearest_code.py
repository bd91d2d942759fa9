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


class _Chunk(NamedTuple):
    """A chunk of the codes, prepared for the scores x·weight + bias."""

    weight: Tensor  # (k d+1), the bias as the last column
    packed: tuple[Tensor, Tensor] | None  # weight and bias in oneDNN's layout


@torch.no_grad()
def nearest(x: Float[Tensor, "m d"], codes: Float[Tensor, "k d"]) -> Int[Tensor, " m"]:
    """Return the index of the code at the smallest Euclidean distance; ties go to the lowest index.

    Computes argmin |x - e|² as argmax x·e - |e|²/2, block by block in one buffer.  The codes are centered first:
    their mean affects no comparison but would cost precision.  Distances that are equal up to rounding may be
    ordered either way.
    """
    if torch.compiler.is_exporting():  # the graph must allow any number of vectors: all scores at once
        (chunk,) = _make_chunks(codes.to(x.dtype), len(codes), fast=False)
        return (_with_one(x) @ chunk.weight.T).argmax(1)
    rows, width = _block_shape(len(codes), x.device)
    fast = len(x) >= rows and _use_onednn(x)
    chunks = _make_chunks(codes.to(x.dtype), width, fast)
    if fast:
        # glibc returns freed blocks to the system, and pays for new pages each time, until it has freed a larger one.
        x.new_empty(7 * 2**20)
    buffer: Tensor | None = None
    indices = torch.empty(len(x), dtype=torch.int64, device=x.device)
    for block, out in zip(x.split(rows), indices.split(rows), strict=True):
        highest, begin, extended = None, 0, None
        for chunk in chunks:
            # oneDNN compiles a kernel for each shape, so a block of another size uses mm.
            if chunk.packed and len(block) == rows:
                scores = F.linear(block.to_mkldnn(), *chunk.packed).to_dense()
            else:
                buffer = x.new_empty(len(block) * len(chunks[0].weight)) if buffer is None else buffer
                scores = buffer[: len(block) * len(chunk.weight)].view(len(block), -1)
                extended = _with_one(block) if extended is None else extended
                torch.mm(extended, chunk.weight.T, out=scores)
            index = _row_argmax(scores)
            if len(chunks) == 1:
                out.copy_(index)
                break
            value = scores.gather(1, index.unsqueeze(1)).squeeze(1)
            if highest is None:
                highest = value
                out.copy_(index)
            else:
                torch.where(value > highest, index + begin, out, out=out)
                highest = torch.maximum(highest, value)
            begin += len(chunk.weight)
    return indices


def _block_shape(codes: int, device: torch.device) -> tuple[int, int]:
    """Return the rows and columns of the scores that are stored at a time."""
    if device.type != "cpu":
        return max(1, BLOCK_DEVICE // codes), codes
    threads, width = torch.get_num_threads(), min(codes, COLUMNS_CPU)
    return min(min(BLOCK_CPU * threads, BLOCK_CPUS) // width, ROWS_CPU * threads), width


def _make_chunks(codes: Tensor, width: int, fast: bool) -> list[_Chunk]:
    """Split the codes into chunks of ``width`` columns."""
    mean = codes.mean(0)
    weight = codes - mean
    bias = (weight * (mean + weight / 2)).sum(-1, keepdim=True).neg_()
    chunks = []
    for part, shift in zip(weight.split(width), bias.split(width), strict=True):
        packed = (part.to_mkldnn(), shift.squeeze(1).to_mkldnn()) if fast else None
        chunks.append(_Chunk(torch.cat([part, shift], 1), packed))
    return chunks


def _with_one(x: Tensor) -> Tensor:
    """Return the vectors with a last column of ones: addmm would copy the bias into every row of the scores."""
    return F.pad(x, (0, 1), value=1.0)


def _row_argmax(scores: Tensor) -> Tensor:
    """Return the first index of each row's maximum."""
    # NumPy's is vectorized, in one thread.  torch's is a scalar loop on a CPU, which takes three times as long.
    vectorized = (
        not torch.compiler.is_compiling()
        and type(scores) is Tensor
        and scores.device.type == "cpu"
        and scores.dtype in (torch.float32, torch.float64)
        and torch.get_num_threads() <= 3
    )
    return torch.from_numpy(scores.numpy().argmax(1)) if vectorized else scores.max(1).indices


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
