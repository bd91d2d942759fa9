"""Salt-and-pepper noise."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.corruptions.base import Damage, checked_number, checked_share, uniform
from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.interfaces import require


class SaltAndPepper(Damage):
    """Sets each element, with probability ``ratio``, to the lowest or the highest value by a fair coin.

    Channels are drawn independently.  ``hit`` is True where an element was drawn, also where it had that
    value before.

    Args:
        ratio: probability of an element to be hit, in [0, 1].
        range: (lowest, highest); that of the data's signature when None.
        data: the signature of the data.

    Raises:
        PartArgumentError: ``ratio`` or ``range`` out of range.
        BuildError: the data holds symbols, or no range is known.

    Source: Vincent et al. 2010, JMLR 11, section 3.3.
    """

    advice = "hide symbols with mask-elements or mask-spans"

    def __init__(
        self,
        ratio: float = 0.25,
        *,
        range: tuple[float, float] | None = None,
        data: Signature | None = None,
    ) -> None:
        super().__init__(data)
        self.ratio = checked_share("ratio", ratio)
        if range is not None:
            require(len(range) == 2, f"range is (lowest, highest), not {range!r}")
            low, high = (checked_number("range", each) for each in range)
            require(low < high, f"range is (lowest, highest), not {range!r}")
            self.range = low, high
        elif self.field is not None and self.field.range is not None:
            self.range = self.field.range
        else:
            raise BuildError(
                "salt-and-pepper sets elements to the lowest or highest value, and the data states no range\n"
                "  give range=(lowest, highest), or state it in the data (arrays: ranges={'x': ...})"
            )

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Each element with probability ``ratio``."""
        return uniform(x.shape, x, generator) < self.ratio

    def replacement(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Either extreme."""
        low, high = (x.new_full((), each) for each in self.range)
        return torch.where(uniform(x.shape, x, generator) < 0.5, low, high)
