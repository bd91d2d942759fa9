"""How a latent is used over a whole data set: the same names for codes, bits and dimensions."""

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
    ``effective_rank``, exp of the entropy of the singular values of the centred codes (Roy and Vetterli
    2007, equation 3), between 1 and the width; and, where the code has a price, ``bits`` an example.

    Discrete ones: ``perplexity`` of the entries, exp of their entropy, mean over slots; ``dead``, how many
    entries of all slots were never chosen; ``entropy``, bits a token if every slot were coded by how often
    its entries occur.  Continuous ones: ``active``, how many dimensions vary by more than the latent's
    threshold (Burda et al. 2016, arXiv 1509.00519, section 5.2, has 0.01 for Gaussians).

    With several factors their names stand before: ``content.usage``.
    """

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """The metrics above and histograms as figures.  Raises BuildError where the model has no encoder."""
        if not len(model.factors):
            raise BuildError("this model has no encoder, so there is no code to measure")
        counters = {name: _Counter(path.latent) for name, path in model.factors.items()}
        for batch in batches(data, "encoding"):
            for name, code in model.encode(batch).items():
                counters[name].see(code)
        found: dict[str, Any] = {"figures": {}}
        for name, counter in counters.items():
            prefix = f"{name}." if len(counters) > 1 else ""
            found.update({prefix + key: value for key, value in counter.metrics().items()})
            found["figures"][f"{prefix}use"] = counter.figure(prefix.rstrip("."))
        return found


class _Counter:
    """One factor's statistics: counts of entries where it has some, moments of the code always."""

    def __init__(self, latent: Latent) -> None:
        self.latent, self.vocab = latent, latent.vocab
        self.examples, self.tokens, self.bits = 0, 0, 0.0
        self.priced = True
        self.counts: list[Tensor] = [torch.zeros(size, dtype=torch.int64) for size in self.vocab or ()]
        self.shift: Tensor | None = None  # the first batch's mean: moments about it lose no digits
        self.total = self.product = torch.zeros(0)

    def see(self, code: Code) -> None:
        """Take one batch into account."""
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
        self.priced = self.priced and code.bits is not None
        if code.bits is not None:
            self.bits += float(to_float64(code.bits).sum())
        if self.vocab is not None:
            assert code.indices is not None
            indices = code.indices.flatten(0, 1) if code.mask is None else code.indices[code.mask]
            for slot, count in enumerate(self.counts):
                count += torch.bincount(indices[:, slot].cpu(), minlength=len(count))

    @property
    def covariance(self) -> Tensor:
        """Of the code's dimensions over all tokens (d d), on the CPU."""
        mean = self.total / self.tokens
        return (self.product / self.tokens - torch.outer(mean, mean)).cpu()

    @property
    def threshold(self) -> float:
        """The variance over which a dimension counts as active."""
        floor = self.latent.active_variance
        return max(float(self.covariance.diagonal().max()) * 0.01 if floor is None else floor, 1e-12)

    def metrics(self) -> dict[str, Any]:
        """Numbers by name."""
        found: dict[str, Any] = {}
        if self.vocab is None:
            active = int((self.covariance.diagonal() > self.threshold).sum())
            found.update(usage=active / len(self.total), active=active)
        else:
            entropies = [_entropy(count) for count in self.counts]
            found["usage"] = float(np.mean([_in_use(count) for count in self.counts]))
            found["perplexity"] = float(np.mean([math.exp(each) for each in entropies]))
            found["dead"] = int(sum(int((count == 0).sum()) for count in self.counts))
            found["entropy"] = float(sum(entropies)) / math.log(2)
        found["effective_rank"] = effective_rank(self.covariance)
        if self.priced:
            found["bits"] = self.bits / self.examples
        return found

    def figure(self, factor: str) -> Any:
        """How often each entry was chosen, or how much each dimension varies."""
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
                caption="The dashed line is even use.",
            )
        if max(self.vocab) == 2:
            return Bars(
                title=f"How often each bit is set{of}",
                values=np.array([share[1] for share in shares]),
                xlabel="bit",
                ylabel="share of tokens",
                level=0.5,
                caption="The dashed line is even use; a bar at 0 or 1 is a bit that says nothing.",
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
    """Of the entries' frequencies, nats."""
    share = count[count > 0].double() / count.sum()
    return float(-(share * share.log()).sum())


def _in_use(count: Tensor) -> float:
    """Share of a slot's entries that were chosen; a bit is in use when it took both values."""
    used = count > 0
    return float(used.double().mean()) if len(used) > 2 else float(used.all())
