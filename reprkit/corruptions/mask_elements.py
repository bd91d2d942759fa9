"""Masking noise: mask single elements."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.corruptions.base import MaskingCorruption, draw_uniform
from reprkit.data.signature import Signature
from reprkit.registry.constraints import Real, Share


class MaskElements(MaskingCorruption):
    """Mask each element with probability ``ratio``: set real data to ``value`` and symbols to the mask symbol.

    Channels are drawn independently.  The mask symbol of tokens is the id ``vocab``.

    Args:
        ratio: probability of masking an element, in [0, 1].
        value: value of masked real elements: in data units, and for columns standardized, so that 0 is the mean.
        data: the signature of the data.

    Raises:
        PartArgumentError: ``ratio`` or ``value`` out of range.
        BuildError: the data holds symbols and ``value`` is given, or ``x`` is a label.

    Source: Vincent et al. 2008 (ICML) and 2010, JMLR 11, section 3.3 ("masking noise"); symbols: Devlin et al.
    2019, arXiv 1810.04805, section 3.1 (without its 80/10/10 rule).
    """

    kinds = ("image", "map", "vector", "sequence", "tokens")

    def __init__(self, ratio: Share = 0.25, *, value: Real = 0.0, data: Signature | None = None) -> None:
        super().__init__(value, data)
        self.ratio = ratio

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose each element with probability ``ratio``."""
        return draw_uniform(x.shape, x, generator) < self.ratio
