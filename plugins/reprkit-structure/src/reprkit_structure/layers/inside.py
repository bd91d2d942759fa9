"""The inside pass over all spans of a batch, and the outside pass as its gradient, with charts that are written in place.

By autograd each slice of a chart costs a chart of zeros in the backward pass; here the gradient is written
out, in four fifths of the time.  See ``grammar`` for the model and the scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

TINY = 1e-35  # added before a logarithm: a sentence that underflows costs 80 nats instead of infinitely many


class Rules(NamedTuple):
    """Rules as matrices (r BC N), by whether the parts are phrases or words: rows are pairs of parts, columns the nonterminals."""

    phrases: Float[Tensor, "r NN N"]
    word_right: Float[Tensor, "r NT N"]
    word_left: Float[Tensor, "r TN N"]
    two_words: Float[Tensor, "r TT N"]

    @classmethod
    def of(cls, log_rules: Float[Tensor, "r N S S"]) -> Rules:
        """Return the matrices of rules in log-probabilities."""
        sizes = [log_rules.shape[1], log_rules.shape[2] - log_rules.shape[1]]
        # Not by slices, each of which costs an array of zeros in the backward pass.
        blocks = [part for side in log_rules.exp().split(sizes, 2) for part in side.split(sizes, 3)]
        return cls(*(block.flatten(2).transpose(1, 2).contiguous() for block in blocks))


@dataclass(frozen=True)
class InsideChart:
    """The inside probabilities of spans, each divided by the exponential of its scale.

    Attributes:
        root: of the whole sentences of two or more words under the nonterminals (b N), with gradient.
        root_scale: (b).
        by_start: of all spans, [start, width - 2] (b n n-1 N), without gradient.
        scales: of these (b n n-1).
    """

    root: Float[Tensor, "b N"]
    root_scale: Float[Tensor, " b"]
    by_start: Float[Tensor, "b n k N"]
    scales: Float[Tensor, "b n k"]


def inside(
    words: Float[Tensor, "b n T"],
    word_scales: Float[Tensor, "b n"],
    lengths: Int[Tensor, " b"],
    rules: Rules,
    spans: Float[Tensor, "b n n"] | None = None,
) -> InsideChart:
    """Fill the chart of sentences of which one at least has two words.

    Args:
        words: probabilities of the words under the preterminals, divided by the exponential of their scales.
        word_scales: of these.
        lengths: number of words of each sentence.
        rules: their gradient is computed once only: there is no second derivative.
        spans: scores that are added to the nodes over words i to j.
    """
    return InsideChart(*_Inside.apply(words, word_scales, lengths, spans, *rules))


class _Inside(torch.autograd.Function):
    """Width by width: pairs of parts, joined by the rules, then scaled to a largest value of 1.

    ``by_end[e, n - w]`` holds the span of width w that ends with word e, so that for the splits of a span the left parts in
    ascending and the right ones in descending width are slices of the two charts.
    """

    @staticmethod
    def forward(
        ctx: Any, words: Tensor, word_scales: Tensor, lengths: Tensor, spans: Tensor | None, *rules: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        named = Rules(*rules)
        size, n, _ = words.shape
        by_start = words.new_zeros(size, n, n - 1, named.phrases.shape[2])
        by_end, scales = torch.zeros_like(by_start), words.new_zeros(size, n, n - 1)
        scales_by_end, tops = torch.zeros_like(scales), list[Tensor]()
        factors = list[tuple[Tensor, Tensor, Tensor | None]]()
        for width in range(2, n + 1):
            s, first, last = n - width + 1, words[:, : n - width + 1], words[:, width - 1 :]
            if width == 2:
                scale = word_scales[:, :-1] + word_scales[:, 1:]
                factors.append((scale, scale, None))
                found = _apply(_outer(first, last), named.two_words)
            else:
                left_word = word_scales[:, :s] + scales_by_end[:, width - 1 :, n - width + 1]
                right_word = scales[:, :s, width - 3] + word_scales[:, width - 1 :]
                scale, inner = torch.maximum(left_word, right_word), None
                if width > 3:
                    inner = scales[:, :s, : width - 3] + scales_by_end[:, width - 1 :, n - width + 2 :]
                    scale = torch.maximum(scale, inner.amax(2))
                    inner = (inner - scale.unsqueeze(2)).exp_().unsqueeze(-1)
                a, z = ((each - scale).exp_().unsqueeze(-1) for each in (left_word, right_word))
                factors.append((a, z, inner))
                right, left = by_end[:, width - 1 :, n - width + 1], by_start[:, :s, width - 3]
                found = _apply(_outer(first * a, right), named.word_left)
                found += _apply(_outer(left, last * z), named.word_right)
                if inner is not None:
                    lefts, rights = (
                        by_start[:, :s, : width - 3] * inner,
                        by_end[:, width - 1 :, n - width + 2 :],
                    )
                    found += _apply((lefts.transpose(2, 3) @ rights).flatten(2), named.phrases)
            if spans is not None:
                found *= spans.diagonal(width - 1, 1, 2).exp().unsqueeze(-1)
            top = found.amax(-1).clamp_(min=TINY)
            by_start[:, :s, width - 2] = by_end[:, width - 1 :, n - width] = found.div_(top.unsqueeze(-1))
            scales[:, :s, width - 2] = scales_by_end[:, width - 1 :, n - width] = scale + top.log()
            tops.append(top)
        place = (lengths - 2).clamp(min=0)
        rows = torch.arange(size, device=words.device)
        ctx.save_for_backward(words, lengths, *(() if spans is None else (spans,)), *rules, by_start, by_end)
        ctx.has_spans, ctx.tops, ctx.factors = spans is not None, tops, factors
        root_scale = scales[rows, 0, place]
        ctx.mark_non_differentiable(root_scale, by_start, scales)
        return by_start[rows, 0, place], root_scale, by_start, scales

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, root_gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        words, lengths, *rest = ctx.saved_tensors
        spans = rest.pop(0) if ctx.has_spans else None
        *rules, by_start, by_end = rest
        named, n = Rules(*rules), words.shape[1]
        start, end = torch.zeros_like(by_start), torch.zeros_like(by_end)  # gradients of the charts
        rows = torch.arange(len(words), device=words.device)
        start[rows, 0, (lengths - 2).clamp(min=0)] = root_gradient * (lengths > 1).unsqueeze(-1)
        word_gradient = torch.zeros_like(words)
        span_gradient = None if spans is None else torch.zeros_like(spans)
        gradients = Rules(*(torch.zeros_like(each) for each in rules))
        for width in range(n, 1, -1):
            s, first, last = n - width + 1, words[:, : n - width + 1], words[:, width - 1 :]
            g = start[:, :s, width - 2] + end[:, width - 1 :, n - width]
            if spans is not None and span_gradient is not None:
                span_gradient.diagonal(width - 1, 1, 2).copy_((g * by_start[:, :s, width - 2]).sum(-1))
                g = g * spans.diagonal(width - 1, 1, 2).exp().unsqueeze(-1)
            g = g / ctx.tops[width - 2].unsqueeze(-1)
            a, z, inner = ctx.factors[width - 2]
            if width == 2:
                left, right = _join_backward(first, last, g, named.two_words, gradients.two_words)
                word_gradient[:, :s] += left
                word_gradient[:, 1:] += right
                continue
            at_right, at_left = (
                (slice(None), slice(width - 1, None), n - width + 1),
                (slice(None), slice(s), width - 3),
            )
            left, right = _join_backward(first * a, by_end[at_right], g, named.word_left, gradients.word_left)
            word_gradient[:, :s] += left * a
            end[at_right] += right
            left, right = _join_backward(
                by_start[at_left], last * z, g, named.word_right, gradients.word_right
            )
            start[at_left] += left
            word_gradient[:, width - 1 :] += right * z
            if inner is not None:
                lefts, rights = by_start[:, :s, : width - 3] * inner, by_end[:, width - 1 :, n - width + 2 :]
                _add_products((lefts.transpose(2, 3) @ rights).flatten(2), g, gradients.phrases)
                pairs = _apply(g, named.phrases.transpose(1, 2)).unflatten(2, (lefts.shape[3], -1))
                start[:, :s, : width - 3] += (rights @ pairs.transpose(2, 3)) * inner
                end[:, width - 1 :, n - width + 2 :] += lefts @ pairs
        return word_gradient, None, None, span_gradient, *gradients


def _join_backward(
    left: Float[Tensor, "b s B"],
    right: Float[Tensor, "b s C"],
    gradient: Float[Tensor, "b s N"],
    rules: Float[Tensor, "r BC N"],
    rules_gradient: Float[Tensor, "r BC N"],
) -> tuple[Float[Tensor, "b s B"], Float[Tensor, "b s C"]]:
    """Return the gradients of both parts, and add that of the rules."""
    _add_products(_outer(left, right), gradient, rules_gradient)
    pairs = _apply(gradient, rules.transpose(1, 2)).unflatten(2, (left.shape[2], right.shape[2]))
    return (pairs @ right.unsqueeze(-1)).squeeze(-1), (left.unsqueeze(-2) @ pairs).squeeze(-2)


def _add_products(
    pairs: Float[Tensor, "b s BC"], gradient: Float[Tensor, "b s N"], total: Float[Tensor, "r BC N"]
) -> None:
    if len(total) == 1:
        total[0].addmm_(pairs.flatten(0, 1).T, gradient.flatten(0, 1))
    else:
        total.baddbmm_(pairs.transpose(1, 2), gradient)


def _outer(left: Float[Tensor, "b s B"], right: Float[Tensor, "b s C"]) -> Float[Tensor, "b s BC"]:
    return (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(2)


def _apply(pairs: Float[Tensor, "b s k"], rules: Float[Tensor, "r k m"]) -> Float[Tensor, "b s m"]:
    return pairs @ (rules[0] if len(rules) == 1 else rules)
