"""Several rates from one network: a learned gain for each, by which a code is multiplied before it is rounded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit.interfaces import require
from reprkit.latents.functional import draw_noise

STEPS = 8  # levels from one rate to the next


class Gains(nn.Module):
    """A vector of gains for each rate, and one of their inverses (Cui et al. 2021, arXiv 2003.02012).

    Between two rates the logarithms of the gains are interpolated, so that a level may lie between: level ``8 k`` is rate k.

    Args:
        dim: width of the code.
        betas: weight of the rate, one for each.
    """

    betas: Tensor

    def __init__(self, dim: int, betas: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("betas", torch.tensor(betas, dtype=torch.float32), persistent=False)
        # At high rates the best step grows with the root of beta.
        start = -0.5 * self.betas.log().unsqueeze(1).expand(-1, dim)
        self.log_gain, self.log_inverse = nn.Parameter(start.clone()), nn.Parameter(-start.clone())
        self.levels = STEPS * (len(betas) - 1) + 1
        self.default = STEPS * min(range(len(betas)), key=lambda k: abs(math.log(betas[k])))

    def to_level(self, rate: float) -> int:
        """Return the level of a rate from 0 to the number of betas - 1.

        Raises:
            PartArgumentError: the rate lies outside.
        """
        last = len(self.betas) - 1
        require(0 <= rate <= last, f"rate is {rate}, and the latent has the rates 0 to {last}")
        return round(rate * STEPS)

    def draw(self, like: Float[Tensor, "b n d"]) -> Int[Tensor, " b"]:
        """Draw the level of one of the rates for each example."""
        number = (draw_noise(torch.rand, like[:, 0, 0]) * len(self.betas)).long()
        return STEPS * number.clamp(max=len(self.betas) - 1)

    def weight(self, level: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the weight of the rate at a level."""
        return self._between(self.betas.log().unsqueeze(1), level).squeeze(1).exp()

    def gain(self, level: Int[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        """Return the factors before rounding."""
        return self._between(self.log_gain, level).exp()

    def inverse(self, level: Int[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        """Return the factors after rounding."""
        return self._between(self.log_inverse, level).exp()

    def _between(self, table: Float[Tensor, "k d"], level: Tensor) -> Float[Tensor, "*n d"]:
        low = torch.div(level, STEPS, rounding_mode="floor")
        share = (level - STEPS * low).to(table.dtype).unsqueeze(-1) / STEPS
        return table[low] * (1 - share) + table[(low + 1).clamp(max=len(table) - 1)] * share
