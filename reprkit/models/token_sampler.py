"""Sampling of tokens for generation, which draws the noise of many steps at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from reprkit.errors import PartArgumentError
from reprkit.interfaces import Likelihood
from reprkit.utils.precision import at_least_float32

_STEPS, _VALUES = 64, 2**20  # noise is drawn for this many steps at once, but at most this many values


class TokenSampler:
    """Sample from likelihoods of one shape, step after step.

    A symbol is the argmax of logits plus Gumbel noise (Gumbel 1954; Maddison et al. 2014, arXiv 1411.0030), which has
    the distribution of the softmax without computing it.

    Args:
        temperature: divides logits and multiplies standard deviations; 0 takes the most likely value.
        top_k: draw from the k most likely symbols only.
        top_p: draw only from the smallest set of most likely symbols whose probability reaches p.
        seed: random seed; equal seeds give equal draws.
        generator: random generator on the model's device, instead of ``seed``.
        device: device of the draws.

    Raises:
        PartArgumentError: both a seed and a generator, or a temperature below 0.  A call raises it for ``top_k`` and ``top_p``.
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        device: torch.device,
    ) -> None:
        if seed is not None and generator is not None:
            raise PartArgumentError("seed= and generator= both set the randomness: give one of them")
        if not isinstance(temperature, int | float) or not 0 <= temperature < math.inf:
            raise PartArgumentError(f"temperature must be a finite number from 0, not {temperature!r}")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.generator = generator if seed is None else torch.Generator(device).manual_seed(seed)
        self._noise: list[Tensor] = []

    def __call__(self, likelihood: Likelihood, params: Mapping[str, Tensor]) -> Tensor:
        """Draw one token (b n p)."""
        if self.temperature not in (0, 1):
            params = likelihood.temper(params, self.temperature)
        if self.top_k is not None or self.top_p is not None:
            params = filter_top_k_top_p(likelihood, params, self.top_k, self.top_p)
        if not likelihood.discrete:
            params = likelihood.temper(params, 0) if self.temperature == 0 else params
            return likelihood.sample(params, self.generator)
        logits = params["logits"]
        if self.temperature == 0:
            return logits.argmax(-1)
        return (logits + self._gumbel(logits)).argmax(-1)

    def _gumbel(self, logits: Tensor) -> Tensor:
        if not self._noise:
            steps = max(1, min(_STEPS, _VALUES // logits.numel()))
            rates = torch.empty(steps, *logits.shape, device=logits.device)
            # An exponential draw of 0 would give infinite noise; float32's smallest number is small enough for any draw.
            rates = rates.exponential_(generator=self.generator).clamp_(min=torch.finfo(torch.float32).tiny)
            self._noise = list(rates.log_().neg_().unbind(0))[::-1]
        return self._noise.pop()


def filter_top_k_top_p(
    likelihood: Likelihood, params: Mapping[str, Tensor], top_k: int | None = None, top_p: float | None = None
) -> dict[str, Tensor]:
    """Exclude unlikely symbols; the remaining ones keep their proportions.

    ``top_k`` keeps the k most likely (Fan et al. 2018, arXiv 1805.04833); ``top_p`` then keeps the smallest set of most likely
    symbols whose probability reaches p (nucleus sampling: Holtzman et al. 2020, arXiv 1904.09751).  Ties are broken by the
    order of the symbols.

    Raises:
        PartArgumentError: either is out of its range, or the likelihood is not of symbols.
    """
    if top_k is None and top_p is None:
        return dict(params)
    if not likelihood.discrete:
        raise PartArgumentError(
            "top_k and top_p apply to a likelihood of symbols, and this one is "
            f"{likelihood.qualified or type(likelihood).__name__}: use temperature"
        )
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
        raise PartArgumentError(f"top_k must be a whole number of symbols from 1, not {top_k!r}")
    if top_p is not None and not (isinstance(top_p, int | float) and 0 < top_p <= 1):
        raise PartArgumentError(f"top_p must be a probability above 0 and up to 1, not {top_p!r}")
    logits = at_least_float32(params["logits"])
    order = logits.argsort(dim=-1, descending=True, stable=True)
    ranked = logits.gather(-1, order)
    excluded = torch.zeros_like(ranked, dtype=torch.bool)
    if top_k is not None:
        excluded[..., top_k:] = True
    if top_p is not None:
        probs = torch.softmax(ranked.masked_fill(excluded, -math.inf), -1)
        excluded |= probs.cumsum(-1) - probs >= top_p
        excluded[..., 0] = False  # rounding must not exclude all
    return {"logits": logits.masked_fill(excluded.gather(-1, order.argsort(-1)), -math.inf)}
