"""Sparsity: how many units of the code are active at a time, and how many never are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches, to_float64
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import NonNegative

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


class Sparsity(Evaluator):
    """Sparsity of each factor's code over the data set, means over valid tokens.

    A unit is active where its absolute value is above ``threshold``.  ``active``: the share of units that are; ``l0``: their
    number; ``hoyer``: (√d − |z|₁ / |z|₂) / (√d − 1), 0 where all units are equal and 1 where one is active (Hoyer 2004, JMLR 5,
    equation 1), a mean over tokens that are not zero, absent where there are none and for d = 1; ``dead``: how many units are
    active at no token; ``silent``: the share of tokens at which no unit is.

    With several factors the names are prefixed: ``content.active``.

    Args:
        threshold: see above; 0 suits codes with exact zeros (ReLU, top-k).
    """

    def __init__(self, threshold: NonNegative = 0.0) -> None:
        super().__init__()
        self.threshold = threshold

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics, and how often each unit is active as a figure.  Raises BuildError if the model has no encoder."""
        from reprkit.reporting.figures import Bars

        if not len(model.factors):
            raise BuildError("this model has no encoder, so it has no code to measure")
        counters = {name: _Counter(self.threshold) for name in model.factors}
        for batch in batches(data, "encoding"):
            for name, code in model.encode(batch).items():
                z = code.point
                counters[name].add(to_float64(z.flatten(0, 1) if code.mask is None else z[code.mask]))
        metrics: dict[str, Any] = {"figures": {}}
        for name, counter in counters.items():
            prefix, of = (f"{name}.", f" of {name}") if len(counters) > 1 else ("", "")
            metrics.update({prefix + key: value for key, value in counter.metrics().items()})
            frequencies = (counter.active / counter.tokens).cpu().sort(descending=True).values
            metrics["figures"][f"{prefix}active"] = Bars(
                title=f"How often each unit{of} is active",
                values=frequencies.numpy(),
                xlabel="units, most frequent first",
                ylabel="share of tokens",
                caption=f"Active: an absolute value above {self.threshold:g}.",
            )
        return metrics


class _Counter:
    """Sums over the tokens of one factor's code."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.tokens = self.silent = self.nonzero = 0
        self.hoyer = 0.0
        self.active: Tensor = torch.zeros(0)

    def add(self, z: Tensor) -> None:
        """Add tokens (n d), float64."""
        width = z.shape[1]
        active = z.abs() > self.threshold
        if not self.tokens:
            self.active = active.new_zeros(width, dtype=torch.int64)
        self.active += active.sum(0)
        self.tokens += len(z)
        self.silent += int((~active.any(1)).sum())
        # Without the division, squares of tiny values would underflow; rows of zeros become NaN.
        z = z / z.abs().amax(1, keepdim=True)
        nonzero = z[z.isfinite().all(1)]
        self.nonzero += len(nonzero)
        if width > 1:
            ratio = nonzero.abs().sum(1) / nonzero.square().sum(1).sqrt()
            self.hoyer += float(((math.sqrt(width) - ratio) / (math.sqrt(width) - 1)).sum())

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name."""
        width, total = len(self.active), float(self.active.sum())
        found = {
            "active": total / self.tokens / width,
            "l0": total / self.tokens,
            "dead": int((self.active == 0).sum()),
            "silent": self.silent / self.tokens,
        }
        if self.nonzero and width > 1:
            found["hoyer"] = self.hoyer / self.nonzero
        return found
