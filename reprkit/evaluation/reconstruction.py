"""Reconstruction: error of the output and likelihood of the input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from reprkit.evaluation.encoding import batches, to_float64
from reprkit.interfaces import Evaluator

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.models.scoring import Scored
    from reprkit.types import Codes


class ReconstructionError(Evaluator):
    """Squared error and likelihood of the output field given the code; padding does not count.

    Real values: ``error``, the squared error per example (summed over its elements, averaged over
    examples; on the digits PCA of 8 dimensions has 1.55), and ``mse``, the same per element.
    Symbols: ``accuracy``, the share predicted correctly, and ``perplexity``, exp of the nats per symbol.
    Both: ``nll``, the negative log-likelihood, nats per example.  If the code has a bit cost, ``bits`` per
    example; if the latent has a loss ``kl``, ``kl`` and ``negative_elbo`` = nll + kl, nats per example
    (Kingma and Welling 2014, arXiv 1312.6114, equation 3; with the mean code instead of a draw, therefore a
    little below the bound).
    """

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above.  Raises BuildError if the model has no decoder."""
        total: dict[str, float] = {}
        examples, elements, symbols = 0, 0.0, False
        for batch in batches(data, "reconstructing"):
            codes = model.encode(batch)
            scored = model.score(batch, codes)
            size = scored.target.shape[0]
            symbols = scored.decoded.likelihood.discrete
            for name, value in _sums(scored, codes, symbols, size).items():
                total[name] = total.get(name, 0.0) + value
            examples += size
            elements += float(scored.full_weight.sum())
        nll = total["nll"] / examples
        if symbols:
            perplexity = math.exp(min(total["nll"] / elements, 700.0))
            metrics = {"accuracy": total["correct"] / elements, "perplexity": perplexity, "nll": nll}
        else:
            metrics = {"error": total["squares"] / examples, "mse": total["squares"] / elements, "nll": nll}
        if "bits" in total:
            metrics["bits"] = total["bits"] / examples
        if "kl" in total:
            metrics["kl"] = total["kl"] / examples
            metrics["negative_elbo"] = nll + metrics["kl"]
        return metrics


def _sums(scored: Scored, factors: Codes, symbols: bool, size: int) -> dict[str, float]:
    """Return one batch's sums over examples."""
    decoded, target, weight = scored.decoded, scored.target, scored.full_weight
    total = {"nll": float(to_float64(scored.nats).sum())}
    if symbols:
        total["correct"] = float(((decoded.x == target) * weight).sum())
    else:
        total["squares"] = float((to_float64(decoded.x - target).square() * to_float64(weight)).sum())
    codes = list(factors.values())
    costs = [code.bits for code in codes if code.bits is not None]
    if codes and len(costs) == len(codes):
        total["bits"] = float(sum(to_float64(cost).sum() for cost in costs))
    # The loss may be modified (free bits, warm-up); the metric of that name is the divergence itself.
    divergences = [code.metrics.get("kl", code.losses["kl"]) for code in codes if "kl" in code.losses]
    if divergences:
        total["kl"] = sum(
            float(divergence) * size for divergence in divergences
        )  # a mean over the batch's examples
    return total
