"""Salt-and-pepper noise."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Predicate
from torch import Tensor

from reprkit.corruptions.base import ElementCorruption, draw_uniform
from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.registry.constraints import Real, Share, strictly_ascending


class SaltAndPepper(ElementCorruption):
    """Set each element, with probability ``ratio``, to the lowest or the highest value, each equally likely.

    Channels are drawn independently.  ``hit`` is True at every chosen element, also where it had that value
    before.

    Args:
        ratio: probability of replacing an element, in [0, 1].
        range: (lowest, highest); None means the range in the data's signature.
        data: the signature of the data.

    Raises:
        PartArgumentError: ``ratio`` or ``range`` out of range.
        BuildError: the data holds symbols, or no range is known.

    Source: Vincent et al. 2010, JMLR 11, section 3.3.
    """

    advice = "mask symbols with mask-elements or mask-spans"

    def __init__(
        self,
        ratio: Share = 0.25,
        *,
        range: Annotated[tuple[Real, Real], Predicate(strictly_ascending)] | None = None,
        data: Signature | None = None,
    ) -> None:
        super().__init__(data)
        self.ratio = ratio
        if range is not None:
            self.range = range
        elif self.field is not None and self.field.range is not None:
            self.range = self.field.range
        else:
            raise BuildError(
                "salt-and-pepper sets elements to the lowest or highest value, and the data's signature has no range\n"
                "  give range=(lowest, highest), or state it in the data (arrays: ranges={'x': ...})"
            )

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose each element with probability ``ratio``."""
        return draw_uniform(x.shape, x, generator) < self.ratio

    def replacement(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the lowest or the highest value, each with probability one half."""
        low, high = (x.new_full((), value) for value in self.range)
        return torch.where(draw_uniform(x.shape, x, generator) < 0.5, low, high)
