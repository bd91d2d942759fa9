"""Dropout of the input."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.corruptions.base import ElementCorruption, draw_uniform
from reprkit.data.signature import Signature
from reprkit.registry.constraints import BelowOne


class Dropout(ElementCorruption):
    """Set each element of real data to zero with probability ``ratio`` and divide the others by 1 - ratio.

    The mean of every element is preserved.  ``hit`` is True at every valid element, since those that are not
    dropped are rescaled.

    Args:
        ratio: probability of dropping an element, in [0, 1).
        data: the signature of the data.

    Raises:
        PartArgumentError: ``ratio`` out of range.
        BuildError: the data holds symbols.

    Source: Srivastava et al. 2014, JMLR 15, section 10 (rescaling at training time).
    """

    advice = "mask symbols with mask-elements or mask-spans"

    def __init__(self, ratio: BelowOne = 0.5, *, data: Signature | None = None) -> None:
        super().__init__(data)
        self.ratio = ratio

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose every element, since those that are not dropped are rescaled."""
        return torch.ones_like(x, dtype=torch.bool)

    def replacement(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return zero with probability ``ratio``, else the rescaled element."""
        dropped = draw_uniform(x.shape, x, generator) < self.ratio
        return torch.where(dropped, self.fill_value(x, 0.0), x / (1 - self.ratio))
