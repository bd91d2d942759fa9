"""Usage of a latent over a whole data set: the same metrics for codes, bits and dimensions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches, to_float64
from reprkit.interfaces import Evaluator, Latent
from reprkit.types import Code
from reprkit.utils.spectrum import effective_rank

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


class Codebook(Evaluator):
    """Usage of each factor's latent over the data set; padding does not count.

    Every latent: ``usage``, the share of codes, bits or dimensions in use, in [0, 1], as in training;
    ``effective_rank``, exp of the entropy of the singular values of the centered codes (Roy and Vetterli
    2007, equation 3), between 1 and the width; and, if the code has a bit cost, ``bits`` per example.

    Discrete latents: ``perplexity`` of the entries, exp of their entropy, mean over slots; ``dead``, how many
    entries of all slots were never chosen; ``entropy``, bits per token if every slot were coded by the
    frequencies of its entries.  Continuous latents: ``active``, how many dimensions have a variance above the latent's
    threshold (Burda et al. 2016, arXiv 1509.00519, section 5.2, has 0.01 for Gaussians).

    With several factors the names are prefixed: ``content.usage``.
    """

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above and histograms as figures.  Raises BuildError if the model has no encoder."""
        if not len(model.factors):
            raise BuildError("this model has no encoder, so it has no code to measure")
        counters = {name: _Counter(factor.latent) for name, factor in model.factors.items()}
        for batch in batches(data, "encoding"):
            for name, code in model.encode(batch).items():
                counters[name].update(code)
        metrics: dict[str, Any] = {"figures": {}}
        for name, counter in counters.items():
            prefix = f"{name}." if len(counters) > 1 else ""
            metrics.update({prefix + key: value for key, value in counter.metrics().items()})
            metrics["figures"][f"{prefix}use"] = counter.figure(prefix.rstrip("."))
        return metrics


class _Counter:
    """One factor's statistics: counts of discrete entries, and moments of the code."""

    def __init__(self, latent: Latent) -> None:
        self.latent, self.vocab = latent, latent.vocab
        self.examples, self.tokens, self.bits = 0, 0, 0.0
        self.has_bits = True
        self.counts: list[Tensor] = [torch.zeros(size, dtype=torch.int64) for size in self.vocab or ()]
        self.shift: Tensor | None = None  # the first batch's mean; moments about it keep precision
        self.total = self.product = torch.zeros(0)

    def update(self, code: Code) -> None:
        """Add one batch."""
        z = code.point
        flat = to_float64(z.flatten(0, 1) if code.mask is None else z[code.mask])
        if self.shift is None:
            self.shift = flat.mean(0)
            self.total, self.product = (
                torch.zeros_like(self.shift),
                self.shift.new_zeros(len(self.shift), len(self.shift)),
            )
        flat = flat - self.shift
        self.total += flat.sum(0)
        self.product += flat.T @ flat
        self.examples += z.shape[0]
        self.tokens += len(flat)
        self.has_bits = self.has_bits and code.bits is not None
        if code.bits is not None:
            self.bits += float(to_float64(code.bits).sum())
        if self.vocab is not None:
            assert code.indices is not None
            indices = code.indices.flatten(0, 1) if code.mask is None else code.indices[code.mask]
            for slot, count in enumerate(self.counts):
                count += torch.bincount(indices[:, slot].cpu(), minlength=len(count))

    @property
    def covariance(self) -> Tensor:
        """Covariance of the code's dimensions over all tokens (d d), on the CPU."""
        mean = self.total / self.tokens
        return (self.product / self.tokens - torch.outer(mean, mean)).cpu()

    @property
    def threshold(self) -> float:
        """Variance above which a dimension counts as active."""
        floor = self.latent.active_variance
        return max(float(self.covariance.diagonal().max()) * 0.01 if floor is None else floor, 1e-12)

    def metrics(self) -> dict[str, Any]:
        """Return the metrics by name."""
        metrics: dict[str, Any] = {}
        if self.vocab is None:
            active = int((self.covariance.diagonal() > self.threshold).sum())
            metrics.update(usage=active / len(self.total), active=active)
        else:
            entropies = [_entropy(count) for count in self.counts]
            metrics["usage"] = float(np.mean([_usage(count) for count in self.counts]))
            metrics["perplexity"] = float(np.mean([math.exp(entropy) for entropy in entropies]))
            metrics["dead"] = int(sum(int((count == 0).sum()) for count in self.counts))
            metrics["entropy"] = float(sum(entropies)) / math.log(2)
        metrics["effective_rank"] = effective_rank(self.covariance)
        if self.has_bits:
            metrics["bits"] = self.bits / self.examples
        return metrics

    def figure(self, factor: str) -> Any:
        """Plot how often each entry was chosen, or how much each dimension varies."""
        from reprkit.reporting.figures import Bars, Matrix

        of = f" of {factor}" if factor else ""
        if self.vocab is None:
            variance = self.covariance.diagonal().numpy()
            return Bars(
                title=f"Variance of each dimension{of}",
                values=variance,
                xlabel="dimension",
                ylabel="variance",
                level=self.threshold,
                caption="Dimensions above the dashed line count as in use.",
            )
        shares = [(count.double() / max(self.tokens, 1)).numpy() for count in self.counts]
        if len(shares) == 1:
            return Bars(
                title=f"How often each code is chosen{of}",
                values=np.sort(shares[0])[::-1],
                xlabel="codes, most frequent first",
                ylabel="share of tokens",
                level=1 / len(shares[0]),
                caption="The dashed line is uniform use.",
            )
        if max(self.vocab) == 2:
            return Bars(
                title=f"How often each bit is set{of}",
                values=np.array([share[1] for share in shares]),
                xlabel="bit",
                ylabel="share of tokens",
                level=0.5,
                caption="The dashed line is uniform use; a bit at 0 or 1 carries no information.",
            )
        table = np.full((len(shares), max(self.vocab)), np.nan)
        for row, share in zip(table, shares, strict=True):
            row[: len(share)] = np.sort(share)[::-1]
        return Matrix(
            title=f"How often each code of each slot is chosen{of}",
            values=table,
            xlabel="codes, most frequent first",
            ylabel="slot",
            caption="Share of tokens.",
        )


def _entropy(count: Tensor) -> float:
    """Return the entropy of the entries' frequencies, in nats."""
    share = count[count > 0].double() / count.sum()
    return float(-(share * share.log()).sum())


def _usage(count: Tensor) -> float:
    """Return the share of a slot's entries that were chosen; a bit is in use if it took both values."""
    used = count > 0
    return float(used.double().mean()) if len(used) > 2 else float(used.all())
