"""Discretized mixture of logistic distributions, for gray values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.interfaces import Likelihood, require
from reprkit.likelihoods.categorical import draw_symbols, keep_most_likely
from reprkit.likelihoods.location_scale import require_real, soft_floor
from reprkit.utils.precision import at_least_float32


class LogisticMixture(Likelihood):
    """Probability of each of ``levels`` evenly spaced values (PixelCNN++: Salimans et al. 2017, arXiv 1701.05517, section 2.1).

    A mixture of logistic distributions is integrated over the bin of each value, which ends half-way to its neighbors; the bins of
    the two extremes extend to infinity, so the probabilities sum to 1.  The loss is a probability, so bits per dimension are
    comparable with those of other models of the same levels.  Elements are independent given the code: the paper's linear
    dependence between the color channels of a pixel (its section 2.2) is left out, since a token may hold any elements.

    Parameters: ``logits``, ``mean`` and ``log_scale``, each (b n p k) for k components, in data units.

    Args:
        components: number of logistic distributions of an element; the paper has 5.
        levels: number of values of an element: 256 for 8-bit pixels.
        data: the signature of the data, field ``x``, with a range.

    Raises:
        PartArgumentError: the data holds symbols, or its range is not stated.
    """

    def __init__(
        self,
        components: Annotated[int, Ge(1), Le(256)] = 5,
        *,
        levels: Annotated[int, Ge(2), Le(2**16)] = 256,
        data: Signature,
    ) -> None:
        super().__init__()
        require_real(data, "logistic-mixture")
        span = data["x"].range
        require(
            span is not None,
            "likelihood='logistic-mixture' divides the range of the data into levels, and the range of x is not stated: set "
            "range= in its signature, or use gaussian or laplace",
        )
        assert span is not None
        self.components, self.levels = components, levels
        self.low, self.high = float(span[0]), float(span[1])
        self.step = (self.high - self.low) / (levels - 1)
        self.support = tuple(self.low + self.step * level for level in range(levels))

    def outputs(self) -> dict[str, int]:
        """Logit, mean and log-scale of every component."""
        return {"linear": 3 * self.components}

    def params(self, outputs: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``logits``, ``mean`` and ``log_scale``, each (b n p k); the means start evenly spaced over the range."""
        logits, mean, raw = outputs["linear"].chunk(3, -1)
        radius, center = 0.5 * (self.high - self.low), 0.5 * (self.high + self.low)
        places = torch.arange(self.components, device=mean.device, dtype=mean.dtype) + 0.5
        mean = center + radius * (mean + 2 * places / self.components - 1)
        # At first the components are about as wide as the distance between them.
        return {
            "logits": logits,
            "mean": mean,
            "log_scale": soft_floor(raw) + math.log(radius / self.components),
        }

    def nll(self, params: Mapping[str, Tensor], target: Tensor) -> Float[Tensor, "b n p"]:
        """Return the negative log-probability of the bin around each value."""
        logits, mean, log_scale = (at_least_float32(params[name]) for name in ("logits", "mean", "log_scale"))
        value = target.to(mean.dtype).unsqueeze(-1)
        rate = torch.exp(-log_scale)
        half = 0.5 * self.step
        first, last = value <= self.low + half, value >= self.high - half
        above, below = (value + half - mean) * rate, (value - half - mean) * rate
        # s(a) - s(b) = s(a) s(-b) (1 - exp(b - a)) for the logistic function s: no difference of close numbers.
        width = self.step * rate
        # log(1 - exp(-w)) is log(w) - w / 2 for a small w, where the difference would be 0.
        between = torch.where(
            width < 1e-3,
            math.log(self.step) - log_scale - 0.5 * width,
            torch.log(-torch.expm1(-width.clamp(min=1e-3))),
        )
        zero = torch.zeros((), dtype=mean.dtype, device=mean.device)
        log_mass = (
            torch.where(last, zero, F.logsigmoid(above))
            + torch.where(first, zero, F.logsigmoid(-below))
            + torch.where(first | last, zero, between)
        )
        return -torch.logsumexp(torch.log_softmax(logits, -1) + log_mass, -1)

    def point(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return the mean of the mixture, within the range."""
        mean = (torch.softmax(at_least_float32(params["logits"]), -1) * at_least_float32(params["mean"])).sum(
            -1
        )
        return mean.clamp(self.low, self.high)

    def sample(self, params: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw a component, then one of the levels."""
        logits, mean, log_scale = (at_least_float32(params[name]) for name in ("logits", "mean", "log_scale"))
        chosen = draw_symbols(logits, generator).unsqueeze(-1)
        mean, log_scale = mean.gather(-1, chosen).squeeze(-1), log_scale.gather(-1, chosen).squeeze(-1)
        share = torch.empty_like(mean, memory_format=torch.contiguous_format).uniform_(generator=generator)
        noise = torch.logit(share, eps=torch.finfo(share.dtype).tiny)
        level = ((mean + noise * log_scale.exp() - self.low) / self.step).round()
        return self.low + self.step * level.clamp(0, self.levels - 1)

    def temper(self, params: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
        """Divide the logits and multiply the scales by the temperature; at 0 the most likely component's mean is left."""
        logits, log_scale = at_least_float32(params["logits"]), at_least_float32(params["log_scale"])
        if temperature:
            return {
                **params,
                "logits": logits / temperature,
                "log_scale": log_scale + math.log(temperature),
            }
        return {**params, "logits": keep_most_likely(logits), "log_scale": log_scale - math.inf}
