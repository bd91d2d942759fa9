"""Masking noise: single elements are hidden."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.corruptions.base import ElementCorruption, draw_uniform
from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.registry.constraints import Share


class MaskElements(ElementCorruption):
    """Hides each element with probability ``ratio``: real data becomes ``value``, a symbol the mask symbol.

    Channels are drawn independently.  The mask symbol of tokens is the id ``vocab``.

    Args:
        ratio: probability of an element to be hidden, in [0, 1].
        value: what real elements become, in data units.
        data: the signature of the data.

    Raises:
        PartArgumentError: ``ratio`` or ``value`` out of range.
        BuildError: the data holds symbols and ``value`` is given, or ``x`` is a label.

    Source: Vincent et al. 2008 (ICML) and 2010, JMLR 11, section 3.3 ("masking noise"); symbols: Devlin et
        al.
    2019, arXiv 1810.04805, section 3.1 (without its 80/10/10 rule).
    """

    kinds = ("image", "vector", "sequence", "tokens")

    def __init__(self, ratio: Share = 0.25, *, value: float = 0.0, data: Signature | None = None) -> None:
        super().__init__(data)
        self.ratio, self.value = ratio, value
        if value and self.field is not None and self.field.discrete:
            raise BuildError(
                "symbols are hidden behind the mask symbol, so value= has no meaning: leave it out"
            )

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Each element with probability ``ratio``."""
        return draw_uniform(x.shape, x, generator) < self.ratio

    def replacement(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """The value, or the mask symbol."""
        return self.blank(x, self.value)
