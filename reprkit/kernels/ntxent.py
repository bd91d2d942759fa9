"""NT-Xent, the cross-entropy loss of SimCLR, as a pure function with a hand-written gradient.

Why it is fast: every similarity is at most 1/temperature, so one constant shift prevents overflow and the matrix
of exponentials is **symmetric**.  Only blocks on and above the diagonal are computed; the two softmaxes of a pair
contribute one gradient, ``E_ij (1/r_i + 1/r_j)`` with r the row sums, applied in place; and the gradient is computed
in the forward pass, so nothing of the size of the matrix is saved for the backward pass.  Blocks are cached between
the two sweeps while they are small, else recomputed: memory is O(b d + block²).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit.interfaces import require
from reprkit.utils.precision import without_autocast

# exp(-2 / temperature) must stay a normal number: below these limits, float32, then float64, would underflow.
LOWEST_FLOAT32 = 0.025
LOWEST = 0.005

# Rows of a block: as many as fit into a CPU's cache, enough to saturate a GPU.
BLOCK = {"cpu": 512, "cuda": 4096}
CACHE_BYTES = 64 * 2**20  # blocks of at most this many bytes are cached instead of computed twice


def ntxent(
    a: Float[Tensor, "b d"],
    b: Float[Tensor, "b d"],
    temperature: float = 0.5,
    *,
    anchors: slice | None = None,
) -> Float[Tensor, ""]:
    """Compute NT-Xent of two views, where row i of ``a`` matches row i of ``b`` (Chen et al. 2020, arXiv 2002.05709, eq. 1).

    The mean over the 2b anchors of the cross-entropy, in nats, of identifying the anchor's other view among the
    2b - 1 other rows, with logits cosine similarity / ``temperature``.  Rows need not be normalized.  Computed in
    float32 (float64 for float64 input and for temperatures below 0.025) also under autocast.  A second derivative
    takes O(b²) memory.

    Args:
        a: first views (b d).
        b: second views (b d).
        temperature: at least 0.005.
        anchors: the examples that are anchors, such as a rank's own; all examples are compared with.

    Raises:
        PartArgumentError: shapes that differ, no rows, or a temperature out of range.
    """
    return ntxent_and_accuracy(a, b, temperature, anchors=anchors, accuracy=False)[0]


def ntxent_and_accuracy(
    a: Float[Tensor, "b d"],
    b: Float[Tensor, "b d"],
    temperature: float = 0.5,
    *,
    anchors: slice | None = None,
    accuracy: bool = True,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Compute ``ntxent``, and the fraction of anchors whose nearest row is their other view, in [0, 1].

    A tie counts as wrong, so a collapsed encoder scores 0.  With ``accuracy=False`` the accuracy is NaN.
    """
    require(
        a.ndim == 2 and a.shape == b.shape and len(a) > 0,
        f"ntxent takes two views of equal shape (b d) with at least one row, not {tuple(a.shape)} and "
        f"{tuple(b.shape)}",
    )
    require(
        math.isfinite(temperature) and temperature >= LOWEST,
        f"ntxent: temperature is {temperature}; it must be at least {LOWEST}",
    )
    start, stop, _ = (anchors or slice(None)).indices(len(a))
    require(start < stop, f"ntxent: anchors={anchors} selects none of the {len(a)} examples")
    wide = a.dtype == torch.float64 or temperature < LOWEST_FLOAT32
    with without_autocast(a.device):
        z = F.normalize(torch.cat([a, b]).to(torch.float64 if wide else torch.float32), dim=1)
        loss, share = _NTXent.apply(z, temperature, (start, stop), accuracy)
    return loss.to(torch.float64 if a.dtype == torch.float64 else torch.float32), share


class _NTXent(torch.autograd.Function):
    """NT-Xent of unit rows z (2b d), of which i and b + i are views of one example."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, temperature: float, anchors: tuple[int, int], accuracy: bool
    ) -> tuple[Tensor, Tensor]:
        start, stop = anchors
        half, count = len(z) // 2, 2 * (stop - start)
        blocks = _Blocks(z, temperature, anchors)
        sums = blocks.sums()
        # Slices, since a boolean mask would synchronize a GPU.
        logits = torch.linalg.vecdot(z[start:stop], z[half + start : half + stop]).sub_(1).div_(temperature)
        loss = (sums.view(2, half)[:, start:stop].log().sum() - 2 * logits.sum()) / count
        share = torch.full_like(loss, math.nan)
        if accuracy:
            # By more than rounding, so that equal rows do not count as correct.
            rival = blocks.largest_other().view(2, half)[:, start:stop]
            share = (logits.exp() > rival * (1 + 1e-5 / temperature)).to(loss.dtype).mean()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(z, blocks.gradient(sums).mul_(1 / (count * temperature)))
            ctx.options = (temperature, anchors)
        ctx.mark_non_differentiable(share)
        return loss, share

    @staticmethod
    def backward(ctx: Any, loss: Tensor, _share: Tensor) -> tuple[Tensor, None, None, None]:
        z, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: a gradient that can be differentiated again
            (gradient,) = torch.autograd.grad(_reference_loss(z, *ctx.options), z, create_graph=True)
        return gradient * loss, None, None, None


def _reference_loss(z: Tensor, temperature: float, anchors: tuple[int, int]) -> Tensor:
    """Compute the same loss on unit rows z (2b d) with autograd and the whole (2b)² matrix."""
    half, selected = len(z) // 2, slice(*anchors)
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    target = torch.arange(len(z), device=z.device).roll(half)
    return F.cross_entropy(logits, target, reduction="none").view(2, half)[:, selected].mean()


class _Blocks:
    """The upper blocks of E = exp((z zᵀ - 1) / temperature), zero on the diagonal.

    Blocks between rows that are not anchors are omitted.  Both halves are cut at the same rows, so that
    self-pairs and positive pairs lie on diagonals of blocks.
    """

    def __init__(self, z: Tensor, temperature: float, anchors: tuple[int, int]) -> None:
        half = len(z) // 2
        size = BLOCK.get(z.device.type, BLOCK["cuda"])
        edges = [0, *anchors, half]
        cuts = [
            (i, min(i + size, stop))
            for start, stop in itertools.pairwise(edges)
            for i in range(start, stop, size)
        ]
        own = [anchors[0] <= start < anchors[1] for start, _ in cuts]
        self.z, self.scale, self.spans_per_half, self.anchors = z, 1 / temperature, len(cuts), slice(*anchors)
        self.spans = cuts + [(start + half, stop + half) for start, stop in cuts]
        self.own = own + own
        self.rows = self.cut(z)
        self.shift = torch.full((), -self.scale, dtype=z.dtype, device=z.device)
        self.pairs = [
            (i, j)
            for i in range(len(self.spans))
            for j in range(i, len(self.spans))
            if self.own[i] or self.own[j]
        ]
        elements = sum(len(self.rows[i]) * len(self.rows[j]) for i, j in self.pairs)
        self.cache: dict[tuple[int, int], Tensor] | None = (
            {} if elements * z.element_size() <= CACHE_BYTES else None
        )

    def cut(self, x: Tensor) -> list[Tensor]:
        """Split x into views, one for each span."""
        return [x[start:stop] for start, stop in self.spans]

    def __iter__(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yield each block once; the caller may overwrite it on its last sweep."""
        for i, j in self.pairs:
            block = None if self.cache is None else self.cache.get((i, j))
            if block is None:
                block = torch.addmm(self.shift, self.rows[i], self.rows[j].T, alpha=self.scale).exp_()
                if i == j:
                    block.fill_diagonal_(0)
                if self.cache is not None:
                    self.cache[i, j] = block
            yield i, j, block

    def sums(self) -> Tensor:
        """Return the row sums of E (2b); complete for anchors only."""
        total = torch.zeros(len(self.z), dtype=self.z.dtype, device=self.z.device)
        parts = self.cut(total)
        for i, j, block in self:
            parts[i] += block.sum(1)
            if i != j:
                parts[j] += block.sum(0)
        return total

    def largest_other(self) -> Tensor:
        """Return the largest entry of each row of E (2b) except its positive; complete for anchors only."""
        largest = torch.zeros(len(self.z), dtype=self.z.dtype, device=self.z.device)
        parts = self.cut(largest)
        for i, j, block in self:
            diagonal = block.diagonal().clone()
            if j == i + self.spans_per_half:
                block.fill_diagonal_(0)
            torch.maximum(parts[i], block.amax(1), out=parts[i])
            if i != j:
                torch.maximum(parts[j], block.amax(0), out=parts[j])
            block.diagonal().copy_(diagonal)
        return largest

    def gradient(self, sums: Tensor) -> Tensor:
        """Return the gradient with respect to z (2b d) of the anchors' summed losses, without the factor 1/temperature.

        Overwrites the blocks.
        """
        half, selected = len(sums) // 2, self.anchors
        total, inverse = torch.zeros_like(self.z), torch.zeros_like(sums)
        inverse.view(2, half)[:, selected] = 1 / sums.view(2, half)[:, selected]
        for rows, other in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
            # Each anchor's positive counts twice: in its own loss and in the positive's.
            torch.mul(self.z[other][selected], -2, out=total[rows][selected])
        parts, weights = self.cut(total), self.cut(inverse)
        for i, j, block in self:
            block.mul_(weights[i].unsqueeze(1) + weights[j])
            parts[i].addmm_(block, self.rows[j])
            if i != j:
                parts[j].addmm_(block.T, self.rows[i])
        return total
