"""SimCLR's augmentations in a row."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le, Predicate
from jaxtyping import Bool
from torch import Tensor, nn

from reprkit import Corruption, Signature
from reprkit.registry.constraints import ascending
from reprkit.types import Batch
from reprkit_vision.views.base import View
from reprkit_vision.views.blur import Blur
from reprkit_vision.views.colour_jitter import ColourJitter
from reprkit_vision.views.crop import Crop
from reprkit_vision.views.flip import Flip
from reprkit_vision.views.grey import Grey


class SimCLRViews(Corruption):
    """Crop, flip, colour, grey and blur, one after another (Chen et al. 2020, arXiv 2002.05709, appendix A).

    The same as naming ``crop``, ``flip``, ``colour-jitter``, ``grey`` and ``blur`` in a row.  Without data of
    three channels there is no ``grey``.

    Args:
        strength: of the colours: 1 as the paper's for ImageNet, 0.5 as its for CIFAR; 0 leaves them.
        scale: share of the area that a crop keeps, (least, most).
        flip: whether images may be mirrored; False for digits and letters.
        blur: whether they may be blurred; the paper does not for CIFAR.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no images, has neither one channel nor three, or promises no range.
    """

    def __init__(
        self,
        strength: Annotated[float, Ge(0), Le(2)] = 1.0,
        *,
        scale: Annotated[
            tuple[Annotated[float, Ge(1e-6), Le(1)], Annotated[float, Ge(1e-6), Le(1)]], Predicate(ascending)
        ] = (0.08, 1.0),
        flip: bool = True,
        blur: bool = True,
        data: Signature | None = None,
    ) -> None:
        super().__init__()
        s = strength
        steps: list[View] = [Crop(scale, data=data)]
        if flip:
            steps.append(Flip(data=data))
        if s:
            steps.append(
                ColourJitter(0.8 * s, contrast=0.8 * s, saturation=0.8 * s, hue=min(0.5, 0.2 * s), data=data)
            )
            if data is not None and data["x"].channels == 3:
                steps.append(Grey(data=data))
        if blur:
            steps.append(Blur(data=data))
        self.steps = nn.ModuleList(steps)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "b h w c"]]:
        """The batch with ``x`` (b h w c) changed by each in turn, and where any did."""
        view, hit = dict(batch), None
        for step in self.steps:
            view, struck = step(view, generator)
            hit = struck if hit is None else hit | struck
        assert hit is not None  # there is always the crop
        return view, hit
