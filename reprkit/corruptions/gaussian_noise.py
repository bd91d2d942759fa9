"""Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.corruptions.base import ElementCorruption, draw_normal
from reprkit.data.signature import Signature
from reprkit.registry.constraints import Positive


class GaussianNoise(ElementCorruption):
    """Add independent normal noise to every element of real data: x + std * e, e ~ N(0, 1).

    The sum is not clipped to the data's range, so that denoising estimates the score, (E[x | noisy] - noisy) /
    std².  ``hit`` is True at every valid element.

    Args:
        std: standard deviation of the noise, above 0: in data units, and for columns in standard deviations of each.
        data: the signature of the data.

    Raises:
        PartArgumentError: ``std`` out of range.
        BuildError: the data holds symbols.

    Source: Vincent et al. 2010, JMLR 11, section 3.3; the score: Vincent 2011, Neural Computation 23(7).
    """

    advice = "mask symbols with mask-elements or mask-spans"

    def __init__(self, std: Positive = 0.1, *, data: Signature | None = None) -> None:
        super().__init__(data)
        self.std = std

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose every element."""
        return torch.ones_like(x, dtype=torch.bool)

    def replacement(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the noisy data."""
        return x + self.std * draw_normal(x, generator)
