"""The loss of negative sampling: by autograd, and in closed form with sparse gradients of the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from reprkit_text.table_rows import sparse_gradient


def sampled_loss(
    vectors: Float[Tensor, "b n d"],
    table: Float[Tensor, "v d"],
    words: Int[Tensor, "b n"],
    noise: Int[Tensor, "g k"],
    pairs: Float[Tensor, "b n *m"],
    *,
    negatives: float,
    group: int,
) -> Float[Tensor, "b n"]:
    """Return the loss of each token (Mikolov et al. 2013, arXiv 1310.4546, eq. 4), by autograd.

    Args:
        vectors: of the tokens, h.
        table: one row a word, u.
        words: the word at each token.
        noise: the noise words of each ``group`` of consecutive examples; the last group may be smaller.
        pairs: the weight of each token's own word (b n), or of the words at all tokens of its row (b n n).
        negatives: weight of the noise.
        group: number of examples that share noise words.
    """
    own = pairs.ndim == 2
    rows, drawn = table[words], table[noise].repeat_interleave(group, 0)[: len(vectors)]
    scores = (vectors * rows).sum(-1) if own else vectors @ rows.transpose(1, 2)
    positive = F.softplus(-scores) * pairs
    negative = F.softplus(vectors @ drawn.transpose(1, 2)).mean(-1) * negatives
    return positive + negative * pairs if own else positive.sum(-1) + negative * pairs.sum(-1)


class SparseSampledLoss(Function):
    """``sampled_loss`` with gradients in closed form; that of the table is sparse, each row once.

    With s the sigmoid, the derivative of -log s(x) is s(x) - 1 and that of -log s(-x) is s(x).  A step is one look-up of rows, a
    product for the scores, one for each gradient, and one sum over equal rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        table: Tensor,
        words: Tensor,
        noise: Tensor,
        pairs: Tensor,
        negatives: float,
        group: int,
    ) -> Tensor:
        """Return the loss of each token (b n)."""
        vectors = vectors.contiguous()
        index = torch.cat([words.flatten(), noise.flatten()])
        rows = table.index_select(0, index)  # of the words, then of the noise
        own = rows[: words.numel()].view_as(vectors)
        scores = (vectors * own).sum(-1) if pairs.ndim == 2 else torch.bmm(vectors, own.transpose(1, 2))
        loss = F.softplus(-scores)
        outer = torch.expm1(-loss).mul_(pairs)  # the derivative by the score
        loss.mul_(pairs)
        share = pairs.contiguous() if pairs.ndim == 2 else pairs.sum(-1)
        loss = loss if pairs.ndim == 2 else loss.sum(-1)
        inner = []
        for _, part, total, weight, drawn in _groups(rows, noise, group, vectors, loss, share):
            scores = torch.bmm(part, drawn.transpose(1, 2))
            total.addcmul_(F.softplus(scores).mean(-1), weight, value=negatives)
            inner.append(scores.sigmoid_().mul_(weight.unsqueeze(-1) * (negatives / noise.shape[1])))
        ctx.save_for_backward(vectors, rows, index, noise, outer, *inner)
        ctx.group, ctx.size = group, len(table)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the vectors and of the table."""
        vectors, rows, index, noise, outer, *inner = ctx.saved_tensors
        own, gradient = rows[: len(rows) - noise.numel()].view_as(vectors), gradient.contiguous()
        values = torch.empty_like(rows)
        of_words, of_noise = values[: len(rows) - noise.numel()].view_as(vectors), values[-noise.numel() :]
        if outer.ndim == 2:
            outer = (outer * gradient).unsqueeze(-1)
            of_vectors = own * outer
            torch.mul(vectors, outer, out=of_words)
        else:
            outer = outer * gradient.unsqueeze(-1)
            of_vectors = torch.bmm(outer, own)
            torch.bmm(outer.transpose(1, 2), vectors, out=of_words)
        parts = _groups(rows, noise, ctx.group, vectors, of_vectors, gradient)
        for derivative, (start, part, of_part, factor, drawn) in zip(inner, parts, strict=True):
            derivative = derivative * factor.unsqueeze(-1)
            of_part.baddbmm_(derivative, drawn)
            found = of_noise[start : start + drawn.shape[0] * drawn.shape[1]].view_as(drawn)
            torch.bmm(derivative.transpose(1, 2), part, out=found)
        return of_vectors, sparse_gradient(index, values, ctx.size), None, None, None, None, None


def _groups(
    rows: Tensor, noise: Tensor, group: int, *per_token: Tensor
) -> Iterator[tuple[int, Tensor, Tensor, Tensor, Tensor]]:
    """Yield, for the whole groups and for the smaller one at the end, where its noise begins, views of the tensors, and its noise.

    Each tensor of tokens (b n *d) becomes (g m *d), with m tokens a group; the rows of the noise become (g k d).
    """
    first, drawn = per_token[0], rows[-noise.numel() :].view(*noise.shape, rows.shape[1])
    whole, number = len(first) // group * group, len(first) // group
    for begin, end, groups, one in (
        (0, whole, slice(0, number), number),
        (whole, len(first), slice(number, None), 1),
    ):
        if begin < end:
            views = [x[begin:end].view(one, -1, *x.shape[2:]) for x in per_token]
            yield begin // group * noise.shape[1], views[0], views[1], views[2], drawn[groups]
