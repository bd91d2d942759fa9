"""Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.corruptions.base import ElementCorruption, draw_normal, draw_uniform
from reprkit.data.signature import Signature
from reprkit.interfaces import require
from reprkit.registry.constraints import NonNegative, Positive


class GaussianNoise(ElementCorruption):
    """Add independent normal noise to every element of real data: x + std * e, e ~ N(0, 1).

    The sum is not clipped to the data's range, so that denoising estimates the score, (E[x | noisy] - noisy) /
    std².  ``hit`` is True at every valid element.

    Args:
        std: standard deviation of the noise, above 0: in data units, and for columns in standard deviations of each.
        least: draw the deviation of each example uniformly from [``least``, ``std``], for a network that does not know the strength
            of the noise (blind denoising: Zhang et al. 2017, arXiv 1608.03981, section III); None means always ``std``.
        data: the signature of the data.

    Raises:
        PartArgumentError: ``std`` out of range, or ``least`` above ``std``.
        BuildError: the data holds symbols.

    Source: Vincent et al. 2010, JMLR 11, section 3.3; the score: Vincent 2011, Neural Computation 23(7).
    """

    advice = "mask symbols with mask-elements or mask-spans"

    def __init__(
        self, std: Positive = 0.1, *, least: NonNegative | None = None, data: Signature | None = None
    ) -> None:
        require(least is None or least <= std, f"least={least} is above std={std}")
        super().__init__(data)
        self.std, self.least = std, least

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose every element."""
        return torch.ones_like(x, dtype=torch.bool)

    def replacement(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the noisy data."""
        noise = draw_normal(x, generator)
        if self.least is None:
            return x + self.std * noise
        share = draw_uniform((len(x), *[1] * (x.ndim - 1)), x, generator).to(x.dtype)
        return x + (self.least + (self.std - self.least) * share) * noise
