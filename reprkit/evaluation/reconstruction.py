"""Reconstruction: error of the output and likelihood of the input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import MinLen

from reprkit.corruptions.pipeline import CorruptionPipeline, as_corruptions
from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches, to_float64
from reprkit.interfaces import Corruption, Evaluator
from reprkit.registry.constraints import Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.models.scoring import Scored
    from reprkit.types import Codes


class ReconstructionError(Evaluator):
    """Squared error and likelihood of the output field given the code; padding does not count.

    Real values: ``error``, the squared error per example (summed over its elements, averaged over
    examples; on the digits PCA of 8 dimensions has 1.55), and ``mse``, the same per element.
    Symbols: ``accuracy``, the share predicted correctly, and ``perplexity``, exp of the nats per symbol.  Of an output without a
    point estimate (``Decoded.has_point``) only ``perplexity`` and ``nll``.
    Both: ``nll``, the negative log-likelihood, nats per example.  If the code has a bit cost, ``bits`` per
    example; if the latent has a loss ``kl``, ``kl`` and ``negative_elbo`` = nll + kl, nats per example
    (Kingma and Welling 2014, arXiv 1312.6114, equation 3; with the mean code instead of a draw, therefore a
    little below the bound).  Of several outputs each metric has the output's name, ``ab.error``; ``nll`` is also their sum.

    Args:
        corruption: encode a corrupted copy of each example and compare the output with the clean one (Vincent et al. 2008, ICML): a
            reference, an instance, or several that are applied in order.  None encodes the clean example.
        seed: of the corruption.
    """

    def __init__(
        self,
        corruption: str | Corruption | Annotated[tuple[str | Corruption, ...], MinLen(1)] | None = None,
        *,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.corruptions = () if corruption is None else as_corruptions(corruption)
        self.seed = seed

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above.

        Raises:
            BuildError: the model has no decoder; or with a corruption no encoder, or one whose data it does not fit.
        """
        names: list[str | None] = list(model.outputs) or [None]  # None: score raises the error
        total: dict[str | None, dict[str, float]] = {name: {} for name in names}
        symbols: dict[str | None, bool] = {}
        elements, examples = dict.fromkeys(names, 0.0), 0
        corrupt = None
        if self.corruptions:
            if not model.factors:
                raise BuildError(
                    "reconstruction(corruption=...) corrupts what encoders read, and this model has none"
                )
            corrupt = CorruptionPipeline(self.corruptions)
            corrupt.bind(model)
            generator = torch.Generator().manual_seed(self.seed)
        for batch in batches(data, "reconstructing"):
            view = batch if corrupt is None else corrupt.eval()(batch, generator)[0]
            codes = model.encode(view, in_range=corrupt is None)
            for name in names:
                scored = model.score(batch, codes, output=name)
                size = scored.target.shape[0]
                symbols[name] = scored.decoded.likelihood.discrete
                for key, value in _sums(scored, symbols[name]).items():
                    total[name][key] = total[name].get(key, 0.0) + value
                elements[name] += float(scored.full_weight.sum())
            for key, value in _code_sums(codes, size).items():
                total[names[0]][key] = total[names[0]].get(key, 0.0) + value
            examples += size
        found = {name: _metrics(total[name], elements[name], examples, symbols[name]) for name in names}
        if len(found) == 1:
            metrics = next(iter(found.values()))
            nll = metrics["nll"]
        else:
            metrics = {f"{name}.{key}": value for name, each in found.items() for key, value in each.items()}
            nll = metrics["nll"] = sum(each["nll"] for each in found.values())
        sums = total[names[0]]
        if "bits" in sums:
            metrics["bits"] = sums["bits"] / examples
        if "kl" in sums:
            metrics["kl"] = sums["kl"] / examples
            metrics["negative_elbo"] = nll + metrics["kl"]
        return metrics


def _metrics(total: Mapping[str, float], elements: float, examples: int, symbols: bool) -> dict[str, float]:
    """Return the metrics of one output."""
    nll = total["nll"] / examples
    if symbols:
        perplexity = math.exp(min(total["nll"] / elements, 700.0))
        point = {"accuracy": total["correct"] / elements} if "correct" in total else {}
        return {**point, "perplexity": perplexity, "nll": nll}
    if "squares" not in total:
        return {"nll": nll}
    return {"error": total["squares"] / examples, "mse": total["squares"] / elements, "nll": nll}


def _sums(scored: Scored, symbols: bool) -> dict[str, float]:
    """Return one batch's sums over examples, of one output."""
    decoded, target, weight = scored.decoded, scored.target, scored.full_weight
    total = {"nll": float(to_float64(scored.per_example).sum())}
    if not decoded.has_point:
        return total
    if symbols:
        total["correct"] = float(((decoded.x == target) * weight).sum())
    else:
        total["squares"] = float((to_float64(decoded.x - target).square() * to_float64(weight)).sum())
    return total


def _code_sums(factors: Codes, size: int) -> dict[str, float]:
    """Return one batch's sums over examples, of the codes."""
    total: dict[str, float] = {}
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
