"""Mask spans of a sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.corruptions.base import MaskingCorruption, draw_uniform
from reprkit.data.padding import broadcast_mask
from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.registry.constraints import Count, Real, Share


class MaskSpans(MaskingCorruption):
    """Mask spans of ``length`` steps, so that every step is masked with probability ``ratio``.

    A span may start at any step, and spans may overlap (wav2vec 2.0).  A span starts at a step with probability
    1 - (1 - ratio)^(1 / length), and may start up to ``length`` - 1 steps before the sequence, so that every
    step is masked with probability ``ratio``, whatever the length of the sequence.  Real frames are set to
    ``value`` in all channels; symbols are replaced by the mask symbol, the id ``vocab``.

    Args:
        ratio: probability of masking a step, in [0, 1].
        length: steps in a span, from 1; 1 masks steps independently.
        value: value of masked real frames, in data units.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of range.
        BuildError: the data is not a sequence or tokens, or it holds symbols and ``value`` is given.

    Source: Baevski et al. 2020, arXiv 2006.11477, section 3.1 (frames); Joshi et al. 2020, arXiv 1907.10529,
    section 3.1 (symbols; its lengths are random, here they are fixed).
    """

    kinds = ("sequence", "tokens")
    advice = "mask parts of an image with mask-patches, elements of a vector with mask-elements"

    def __init__(
        self, ratio: Share = 0.5, *, length: Count = 4, value: Real = 0.0, data: Signature | None = None
    ) -> None:
        super().__init__(value, data)
        self.ratio, self.length = ratio, length

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose the steps within a span: one that starts at the step or at most ``length`` - 1 steps before."""
        if x.ndim != (3 if x.is_floating_point() else 2):
            raise BuildError(f"mask-spans reads frames (b t c) or symbols (b t), not {tuple(x.shape)}")
        size, steps = x.shape[:2]
        starts = draw_uniform((size, steps + self.length - 1), x, generator) < self.start_probability
        count = torch.nn.functional.pad(starts, (1, 0)).cumsum(1)
        hidden = count[:, self.length :] > count[:, :steps]
        return broadcast_mask(hidden, x).expand(x.shape)

    @property
    def start_probability(self) -> float:
        """The probability that a span starts at a step."""
        return 1 - (1 - self.ratio) ** (1 / self.length)
