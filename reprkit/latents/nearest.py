"""The nearest code of each vector, exactly, without ever holding all distances: memory O(vectors + codes)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Scores held at a time: on a CPU what stays in cache (4 MB a thread), elsewhere what keeps it busy (64 MB).
BLOCK_CPU, BLOCK_DEVICE = 2**20, 2**24
ROWS_CPU = (64, 512)  # fewest and most rows of a block, a thread
GROUP = 64  # codes whose maximum is taken at once


@torch.no_grad()
def nearest(x: Float[Tensor, "m d"], codes: Float[Tensor, "k d"]) -> Int[Tensor, " m"]:
    """Index of the code at the smallest Euclidean distance; ties go to the lowest index.

    Takes argmin |x - e|² as argmax x·e - |e|²/2, block by block of rows in one buffer.  The codes are centred
    first: their mean changes no comparison but would cost digits.  Distances that agree to rounding may be
    ordered either way.
    """
    columns = _columns(len(codes), x.device)
    weight, bias = _scoring(codes.to(x.dtype), columns)
    rows = min(_rows(columns, x.device), len(x))
    found = torch.empty(len(x), dtype=torch.int64, device=x.device)
    fast = _onednn(x)
    if fast:
        packed, shift = weight.to_mkldnn(), bias.to_mkldnn()
    buffer = x.new_empty(0 if fast and len(x) % rows == 0 else rows, columns)
    first = torch.arange(rows, device=x.device) * (columns // GROUP)
    for block, out in zip(x.split(rows), found.split(rows), strict=True):
        # oneDNN compiles a kernel for each shape, so the odd last block takes the plain way.
        if fast and len(block) == rows:
            scores = F.linear(block.to_mkldnn(), packed, shift).to_dense()
        else:
            scores = torch.addmm(bias, block, weight.T, out=buffer[: len(block)])
        _argmax(scores, first, out)
    return found.clamp_(max=len(codes) - 1)  # a vector that is not finite may have found a column beyond


def _scoring(codes: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Weight (c d) and bias (c) whose affine map scores the codes; columns beyond them score -inf."""
    mean = codes.mean(0)
    weight = codes - mean
    bias = (weight * (mean + weight / 2)).sum(-1).neg_()
    if columns == len(codes):
        return weight, bias
    spare = columns - len(codes)
    return F.pad(weight, (0, 0, 0, spare)), F.pad(bias, (0, spare), value=-torch.inf)


def _argmax(scores: Tensor, first: Tensor, out: Tensor) -> None:
    """The first place of each row's maximum, into ``out``.

    On a CPU ``argmax`` is a scalar loop and ``amax`` a vectorised one: so the groups' maxima first, then the
    place within the best group.
    """
    if not _grouped(scores.shape[1], scores.device):
        torch.argmax(scores, 1, out=out)
        return
    groups = scores.shape[1] // GROUP
    split = scores.view(-1, GROUP)
    best = split.amax(1).view(-1, groups).argmax(1)
    place = split.index_select(0, first[: len(scores)] + best).argmax(1)
    torch.add(place, best, alpha=GROUP, out=out)


def _grouped(columns: int, device: torch.device) -> bool:
    return device.type == "cpu" and columns >= 4 * GROUP and columns % GROUP == 0


def _columns(codes: int, device: torch.device) -> int:
    """The number of codes, filled up to whole groups where groups are used."""
    full = -(-codes // GROUP) * GROUP
    return full if _grouped(full, device) else codes


def _rows(columns: int, device: torch.device) -> int:
    if device.type != "cpu":
        return max(1, BLOCK_DEVICE // columns)
    fewest, most = ROWS_CPU
    return torch.get_num_threads() * max(fewest, min(most, BLOCK_CPU // columns))


def _onednn(x: Tensor) -> bool:
    """Whether to multiply by oneDNN: with AVX-512 up to twice as fast as MKL on another maker's chips."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] >= 16
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and not torch.compiler.is_compiling()
    )
