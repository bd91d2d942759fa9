"""Draws one after another for generation: options checked once, the noise of many steps made at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from reprkit.errors import PartArgumentError
from reprkit.models.likelihoods import apply_temperature, draw, filter_top_k_top_p

_STEPS, _VALUES = 64, 2**20  # noise of so many steps at a time, but of no more values than this


class TokenSampler:
    """Draws from likelihoods of one shape, step after step.

    A symbol is the argmax of its logits plus Gumbel noise (Gumbel 1954; Maddison et al. 2014, arXiv 1411.0030), which has
    the distribution of the softmax and needs none.

    Args:
        temperature: divides logits, multiplies standard deviations; 0 takes the most likely value.
        top_k: only the k likeliest symbols.
        top_p: only the fewest symbols whose probability reaches p.
        seed: of the randomness; the same seed draws the same again.
        generator: in its place, on the model's device.
        device: of the draws.

    Raises:
        PartArgumentError: both a seed and a generator, or a temperature below 0.
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
            raise PartArgumentError("seed= and generator= both say where the randomness comes from: give one")
        if not isinstance(temperature, int | float) or not 0 <= temperature < math.inf:
            raise PartArgumentError(f"temperature must be a finite number from 0, not {temperature!r}")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.generator = generator if seed is None else torch.Generator(device).manual_seed(seed)
        self._noise: list[Tensor] = []

    def __call__(self, name: str, params: Mapping[str, Tensor]) -> Tensor:
        """One draw (b n p)."""
        if self.temperature not in (0, 1):
            params = apply_temperature(name, params, self.temperature)
        if self.top_k is not None or self.top_p is not None:
            params = filter_top_k_top_p(name, params, self.top_k, self.top_p)
        if name != "categorical":
            return draw(
                name, apply_temperature(name, params, 0) if self.temperature == 0 else params, self.generator
            )
        logits = params["logits"]
        if self.temperature == 0:
            return logits.argmax(-1)
        return (logits + self._gumbel(logits)).argmax(-1)

    def _gumbel(self, logits: Tensor) -> Tensor:
        if not self._noise:
            steps = max(1, min(_STEPS, _VALUES // logits.numel()))
            rates = torch.empty(steps, *logits.shape, device=logits.device)
            # An exponential of 0 would be noise without bound; float32's smallest is far beyond any draw's need.
            rates = rates.exponential_(generator=self.generator).clamp_(min=torch.finfo(torch.float32).tiny)
            self._noise = list(rates.log_().neg_().unbind(0))[::-1]
        return self._noise.pop()
