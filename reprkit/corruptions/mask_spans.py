"""Spans of a sequence are hidden."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.corruptions.base import ElementCorruption, broadcast_mask, draw_uniform
from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.registry.constraints import Count, Share


class MaskSpans(ElementCorruption):
    """Hides spans of ``length`` steps; every step is hidden with probability ``ratio``.

    A span may begin at any step, and spans may overlap (wav2vec 2.0).  The probability of a beginning is
    1 - (1 - ratio)^(1 / length), and a span may begin up to ``length`` - 1 steps before the sequence, so that
    the share of hidden steps is ``ratio`` at every step, whatever the length of the sequence.  Real frames
    are hidden in all channels and become ``value``; symbols become the mask symbol, the id ``vocab``.

    Args:
        ratio: probability of a step to be hidden, in [0, 1].
        length: steps in a span, from 1; 1 hides steps independently.
        value: what real frames become, in data units.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of range.
        BuildError: the data is not a sequence or tokens, or it holds symbols and ``value`` is given.

    Source: Baevski et al. 2020, arXiv 2006.11477, section 3.1 (frames); Joshi et al. 2020, arXiv 1907.10529,
    section 3.1 (symbols; its lengths are random, here they are fixed).
    """

    kinds = ("sequence", "tokens")
    advice = "hide parts of an image with mask-patches, elements of a vector with mask-elements"

    def __init__(
        self, ratio: Share = 0.5, *, length: Count = 4, value: float = 0.0, data: Signature | None = None
    ) -> None:
        super().__init__(data)
        self.ratio, self.length = ratio, length
        self.value = value
        if value and self.field is not None and self.field.discrete:
            raise BuildError(
                "symbols are hidden behind the mask symbol, so value= has no meaning: leave it out"
            )

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """The steps under a span that began at most ``length`` - 1 steps before."""
        if x.ndim != (3 if x.is_floating_point() else 2):
            raise BuildError(f"mask-spans reads frames (b t c) or symbols (b t), not {tuple(x.shape)}")
        size, steps = x.shape[:2]
        begins = draw_uniform((size, steps + self.length - 1), x, generator) < self.begin
        count = torch.nn.functional.pad(begins, (1, 0)).cumsum(1)
        hidden = count[:, self.length :] > count[:, :steps]
        return broadcast_mask(hidden, x).expand(x.shape)

    def replacement(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """The value, or the mask symbol."""
        return self.blank(x, self.value)

    @property
    def begin(self) -> float:
        """Probability of a span to begin at a step."""
        return 1 - (1 - self.ratio) ** (1 / self.length)
