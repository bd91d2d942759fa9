"""Dynamic evaluation: a sequence model that goes on learning from the sequence it is asked about."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError, TrainingError
from reprkit.evaluation.sequential.next_step import require_causal

if TYPE_CHECKING:
    from reprkit.models.model import Model


def dynamic_evaluation(
    model: Model,
    x: Tensor,
    first: int,
    *,
    segment: int = 32,
    context: int = 128,
    lr: float = 1e-4,
    decay: float = 1e-3,
    epsilon: float = 1e-5,
    pieces: int = 300,
) -> Float[Tensor, " n"]:
    """What a causal model says of the tokens of ``x`` from ``first`` on, learning from each segment once it was asked about it.

    Krause et al. 2018, "Dynamic evaluation of neural sequence models", arXiv 1709.07432, section 4 (RMS with global prior):
    after each segment with gradient g of its mean loss the weights go by

        w <- w - lr g / (r + epsilon) + min(decay r / mean(r), 1) (w0 - w)

    where w0 are those that were trained and r is the root mean square of g over ``pieces`` segments of the tokens before
    ``first``; the mean is over all weights.  Adaptive compressors do the same.  For a model whose weights stay as they are see
    ``reprkit.evaluation.sequential.next_step.one_step_ahead``.

    Args:
        model: trained with the objective "autoregressive"; stays as it is, a copy learns.
        x: the whole sequence, (t,) symbols or (t c) frames; what was trained on comes first.
        first: the first token that counts.
        segment: tokens between two steps of learning.
        context: tokens read before each segment; no more than ``first``, and with ``segment`` no more than the model can read.
        lr: of the rule above; choose it, and ``decay``, on valid.
        decay: how fast weights go back to what they were, 0 (never) to 1.
        epsilon: keeps weights with hardly any gradient from being thrown far.
        pieces: segments that r is taken of, spread evenly.

    Returns:
        -log p of each token, nats (n,), on the CPU; each before anything was learned from it.

    Raises:
        BuildError: the decoder is not causal.
        DataError: a number out of its range, no tokens to count, or too few before them.
        TrainingError: lr is so large that probabilities are no numbers any more.
    """
    require_causal(model)
    if min(segment, context, pieces) < 1 or lr <= 0 or epsilon <= 0 or not 0 <= decay <= 1:
        raise DataError(
            "segment, context and pieces are whole numbers from 1, lr and epsilon above 0, decay from 0 to 1; given "
            f"{segment}, {context}, {pieces}, {lr}, {epsilon} and {decay}"
        )
    if not context + segment <= first < len(x):
        raise DataError(
            f"first={first} of a sequence of {len(x)}: context and a segment, {context} + {segment} tokens, must lie before it, "
            "and one token after"
        )
    learner = copy.deepcopy(model).eval().requires_grad_(True)
    weights = list(learner.parameters())

    def asked(begin: int, end: int) -> tuple[Tensor, list[Tensor]]:
        """-log p of the tokens from ``begin`` to ``end``, and the gradient of their mean."""
        teacher = x[begin - context : end].reshape(1, context + end - begin, -1).to(learner.device)
        with torch.enable_grad():
            nats = learner.decode(teacher=teacher).nll(teacher)[0, context:]
            grads = torch.autograd.grad(nats.mean(), weights, allow_unused=True, materialize_grads=True)
        return nats.detach(), list(grads)

    with torch.no_grad():
        roots = _root_mean_squares(
            asked(begin, begin + segment)[1] for begin in _evenly_spaced(context, first - segment, pieces)
        )
        mean = sum(float(each.sum()) for each in roots) / sum(each.numel() for each in roots)
        back = [(each * (decay / mean)).clamp(max=1.0) for each in roots]
        scale = [lr / (each + epsilon) for each in roots]
        trained = [each.detach().clone() for each in weights]
        found = []
        for begin in range(first, len(x), segment):
            nats, grads = asked(begin, min(begin + segment, len(x)))
            if not nats.isfinite().all():
                raise TrainingError(
                    f"dynamic evaluation left the weights without sense after {begin - first:,} tokens: lr={lr:g} is too large "
                    f"for this model; try {lr / 10:g}"
                )
            found.append(nats.cpu())
            for weight, grad, step, home, pull in zip(weights, grads, scale, trained, back, strict=True):
                weight.add_((home - weight).mul_(pull).addcmul_(grad, step, value=-1))
    return torch.cat(found)


def _evenly_spaced(first: int, last: int, count: int) -> list[int]:
    """At most ``count`` different places from ``first`` to ``last``, both among them, evenly."""
    return torch.linspace(first, last, count).long().unique().tolist()


def _root_mean_squares(gradients: Iterator[list[Tensor]]) -> list[Tensor]:
    """Root mean squares over the gradients, one tensor a weight."""
    total: list[Tensor] = []
    count = 0
    for each in gradients:
        count += 1
        squares = [grad.square() for grad in each]
        total = squares if not total else [one.add_(two) for one, two in zip(total, squares, strict=True)]
    return [each.div_(count).sqrt_() for each in total]
