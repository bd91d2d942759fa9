"""Dynamic evaluation: a sequence model that keeps learning from the sequence it is evaluated on."""

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
    """Compute -log p of the tokens of ``x`` from ``first`` on by a causal model that learns from each segment after scoring it.

    Krause et al. 2018, "Dynamic evaluation of neural sequence models", arXiv 1709.07432, section 4 (RMS with global prior):
    after each segment with gradient g of its mean loss the weights are updated by

        w <- w - lr g / (r + epsilon) + min(decay r / mean(r), 1) (w0 - w)

    where w0 are the trained weights and r is the root mean square of g over ``pieces`` segments of the tokens before
    ``first``; the mean is over all weights.  Adaptive compressors do the same.  For a model with fixed weights see
    ``reprkit.evaluation.sequential.next_step.one_step_ahead``.

    Args:
        model: trained with the objective "autoregressive"; it is not changed, a copy learns.
        x: the whole sequence, (t,) symbols or (t c) frames; the training part comes first.
        first: index of the first scored token.
        segment: tokens between two weight updates.
        context: tokens read before each segment; at most ``first``, and with ``segment`` at most what the model can read.
        lr: of the rule above; choose it, and ``decay``, on validation data.
        decay: how fast weights return to w0, 0 (never) to 1.
        epsilon: bounds the updates of weights with small gradients.
        pieces: number of evenly spaced segments for r.

    Returns:
        -log p of each token, nats (n,), on the CPU; each before learning from it.

    Raises:
        BuildError: the decoder is not causal.
        DataError: a number is out of its range, there are no tokens to score, or too few before them.
        TrainingError: lr is so large that probabilities are no longer finite.
    """
    require_causal(model)
    if min(segment, context, pieces) < 1 or lr <= 0 or epsilon <= 0 or not 0 <= decay <= 1:
        raise DataError(
            "segment, context and pieces are whole numbers from 1, lr and epsilon above 0, decay from 0 to 1; got "
            f"{segment}, {context}, {pieces}, {lr}, {epsilon} and {decay}"
        )
    if not context + segment <= first < len(x):
        raise DataError(
            f"first={first} of a sequence of {len(x)}: context and a segment, {context} + {segment} tokens, must precede it, "
            "and one token must follow"
        )
    learner = copy.deepcopy(model).eval().requires_grad_(True)
    weights = list(learner.parameters())

    def score(begin: int, end: int) -> tuple[Tensor, list[Tensor]]:
        """Return -log p of the tokens from ``begin`` to ``end``, and the gradient of their mean."""
        teacher = x[begin - context : end].reshape(1, context + end - begin, -1).to(learner.device)
        with torch.enable_grad():
            nats = learner.decode(teacher=teacher).nll(teacher)[0, context:]
            grads = torch.autograd.grad(nats.mean(), weights, allow_unused=True, materialize_grads=True)
        return nats.detach(), list(grads)

    with torch.no_grad():
        roots = _root_mean_squares(
            score(begin, begin + segment)[1] for begin in _evenly_spaced(context, first - segment, pieces)
        )
        mean = sum(float(root.sum()) for root in roots) / sum(root.numel() for root in roots)
        pulls = [(root * (decay / mean)).clamp(max=1.0) for root in roots]
        scale = [lr / (root + epsilon) for root in roots]
        trained = [weight.detach().clone() for weight in weights]
        results = []
        for begin in range(first, len(x), segment):
            nats, grads = score(begin, min(begin + segment, len(x)))
            if not nats.isfinite().all():
                raise TrainingError(
                    f"dynamic evaluation diverged after {begin - first:,} tokens: lr={lr:g} is too large "
                    f"for this model; try {lr / 10:g}"
                )
            results.append(nats.cpu())
            for weight, grad, step, start, pull in zip(weights, grads, scale, trained, pulls, strict=True):
                weight.add_((start - weight).mul_(pull).addcmul_(grad, step, value=-1))
    return torch.cat(results)


def _evenly_spaced(first: int, last: int, count: int) -> list[int]:
    """Return at most ``count`` distinct, evenly spaced positions from ``first`` to ``last``, both included."""
    return torch.linspace(first, last, count).long().unique().tolist()


def _root_mean_squares(gradients: Iterator[list[Tensor]]) -> list[Tensor]:
    """Return root mean squares over the gradients, one tensor per weight."""
    total: list[Tensor] = []
    count = 0
    for gradient in gradients:
        count += 1
        squares = [grad.square() for grad in gradient]
        total = squares if not total else [one.add_(two) for one, two in zip(total, squares, strict=True)]
    return [square.div_(count).sqrt_() for square in total]
