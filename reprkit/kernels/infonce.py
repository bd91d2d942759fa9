"""Symmetric InfoNCE between two sets of vectors, the loss of CLIP, as a pure function with a hand-written gradient.

Why it is fast: both softmaxes are of one matrix of logits, and their gradients are one matrix: one product of n x n and two for
the gradients, where autograd takes two and four.  One matrix of exponentials E, shifted by the largest logit, serves rows and
columns; the derivative by the logits is ``E_ij (1/r_i + 1/c_j)``, with r and c the sums of rows and columns.  It is computed in the
forward pass in blocks of rows that fit into a cache, and nothing of the size of the matrix is saved.  Where a row or column lies
so far below the largest logit that its exponentials would underflow (CLIP's scale goes up to 100), rows and columns have matrices
of their own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit.interfaces import require
from reprkit.utils.precision import without_autocast

# Elements of a block of rows: what fits into a CPU's cache, enough to saturate a GPU.
BLOCK = {"cpu": 2**18}
_GPU_BLOCK = 2**25  # of any other device
# A row's largest logit may lie so far below the largest of all: exp(-60) is a normal number of float32.
SPREAD = 60.0
# A counterpart must be more similar than the others by more than rounding, so that equal rows do not count as found.
ROUNDING = 1e-5


def infonce(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    scale: Float[Tensor, "*"],
    *,
    anchors: slice | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Compute the loss of CLIP for pairs (a_i, b_i), and the share of anchors that find their counterpart.

    The mean over anchors, and over both directions, of the cross-entropy, in nats, of identifying an anchor's counterpart among
    all rows of the other side, with logits ``scale * a_i . b_j`` (Radford et al. 2021, arXiv 2103.00020, figure 3).  The share, in
    [0, 1], has no gradient; a tie counts as not found, so a collapsed encoder has 0.  Computed in float32 (float64 for float64
    input), also under autocast.  A second derivative takes O(n²) memory.

    Args:
        a: vectors of one side (n d), normalized by the caller.
        b: vectors of the other side (n d).
        scale: factor of the products, one positive number; it may require a gradient.
        anchors: the examples that are identified, such as a rank's own; all examples are compared with.

    Raises:
        PartArgumentError: shapes that differ, no rows, more than one scale, or no anchors.
    """
    require(
        a.ndim == 2 and a.shape == b.shape and len(a) > 0,
        f"infonce takes two sides of equal shape (n d) with at least one row, not {tuple(a.shape)} and {tuple(b.shape)}",
    )
    require(scale.numel() == 1, f"infonce takes one scale, not {tuple(scale.shape)}")
    start, stop, _ = (anchors or slice(None)).indices(len(a))
    require(start < stop, f"infonce: anchors={anchors} selects none of the {len(a)} examples")
    dtype = torch.float64 if a.dtype == torch.float64 else torch.float32
    with without_autocast(a.device):
        a, b, scale = a.to(dtype), b.to(dtype), scale.to(dtype).reshape(())
        if stop - start == len(a):
            return _InfoNCE.apply(a, b, scale)
        own, target = slice(start, stop), torch.arange(start, stop, device=a.device)
        sides = [scale * (a[own] @ b.T), scale * (b[own] @ a.T)]
        loss = torch.stack([F.cross_entropy(logits, target) for logits in sides]).mean()
        with torch.no_grad():
            found = [_found(logits, target, scale) for logits in sides]
        return loss, torch.cat(found).to(dtype).mean()


def _found(logits: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """Return for each row of (m n) whether its counterpart's logit is the largest."""
    own = logits.gather(1, target.unsqueeze(1))
    others = logits.scatter(1, target.unsqueeze(1), -math.inf).amax(1)
    return own.squeeze(1) > others + ROUNDING * scale


class _InfoNCE(torch.autograd.Function):
    """All rows are anchors: rows and columns of one matrix."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        matrix = _Matrix(a, b, scale)
        losses = matrix.exponentiate()
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(a, b, scale, *matrix.gradients())
        share = matrix.found.to(a.dtype).mean()
        ctx.mark_non_differentiable(share)
        return losses.mean() / 2, share

    @staticmethod
    def backward(ctx: Any, loss: Tensor, _share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b, scale, *gradients = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: gradients that can be differentiated again
            gradients = torch.autograd.grad(_reference_loss(a, b, scale), (a, b, scale), create_graph=True)
        for_a, for_b, for_scale = gradients
        return for_a * loss, for_b * loss, for_scale * loss


def _reference_loss(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Compute the same loss with autograd."""
    logits, target = scale * (a @ b.T), torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class _Matrix:
    """The logits (n n) in blocks of rows, and what becomes of them in place.

    Attributes:
        found: (2 n), for rows and columns whether the own logit is the largest.
    """

    def __init__(self, a: Tensor, b: Tensor, scale: Tensor) -> None:
        self.a, self.b, self.scale = a, b, scale
        count = len(a)
        rows = max(1, BLOCK.get(a.device.type, _GPU_BLOCK) // count)
        self.spans = [slice(start, min(start + rows, count)) for start in range(0, count, rows)]
        scaled, columns = a * scale, b.T
        self.blocks = [scaled[span] @ columns for span in self.spans]
        # Maxima without the diagonal first: whether the counterpart is found.
        diagonals = [block.diagonal(span.start) for span, block in zip(self.spans, self.blocks, strict=True)]
        self.own = torch.cat([diagonal.clone() for diagonal in diagonals])
        for diagonal in diagonals:
            diagonal.fill_(-math.inf)
        rivals = torch.stack(
            [
                torch.cat([block.amax(1) for block in self.blocks]),
                torch.stack([block.amax(0) for block in self.blocks]).amax(0),
            ]
        )
        for span, diagonal in zip(self.spans, diagonals, strict=True):
            diagonal.copy_(self.own[span])
        self.found = self.own > rivals + ROUNDING * scale
        self.largest = torch.maximum(rivals, self.own)
        # Reading the spread would synchronize a GPU.
        spread = self.largest.max() - self.largest.min()
        self.shared = a.device.type == "cpu" and float(spread) < SPREAD

    def exponentiate(self) -> Tensor:
        """Replace the logits by exponentials; return each example's two losses (n,), summed."""
        over_rows, over_columns = self.largest
        self.column_blocks = self.blocks
        if self.shared:
            over_rows = over_columns = self.largest.max().expand_as(over_rows)
        else:
            self.column_blocks = [(block - over_columns).exp_() for block in self.blocks]
        self.row_sums = torch.empty_like(self.own)
        self.column_sums = torch.zeros_like(self.own)
        for span, block, columns in zip(self.spans, self.blocks, self.column_blocks, strict=True):
            block.sub_(over_rows[span].unsqueeze(1)).exp_()
            torch.sum(block, 1, out=self.row_sums[span])
            self.column_sums += columns.sum(0)
        return over_rows + self.row_sums.log() + over_columns + self.column_sums.log() - 2 * self.own

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Replace the exponentials by the derivative by the logits; return the gradients of a, b and the scale."""
        for_a, for_b = torch.empty_like(self.a), torch.zeros_like(self.b)
        for_rows, for_columns = self.row_sums.reciprocal().unsqueeze(1), self.column_sums.reciprocal()
        for span, block, columns in zip(self.spans, self.blocks, self.column_blocks, strict=True):
            if self.shared:
                block.mul_(for_rows[span] + for_columns)
            else:
                block.mul_(for_rows[span]).add_(columns.mul_(for_columns))
            block.diagonal(span.start).sub_(2)
            torch.mm(block, self.b, out=for_a[span])
            for_b.addmm_(block.T, self.a[span])
        half = 1 / (2 * len(self.a))
        # The sum over all logits of derivative times product.
        for_scale = torch.linalg.vecdot(for_a, self.a).sum() * half
        return for_a.mul_(self.scale * half), for_b.mul_(self.scale * half), for_scale
