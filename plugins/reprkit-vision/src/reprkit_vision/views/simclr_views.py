"""SimCLR's augmentations as one corruption."""

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
from reprkit_vision.views.color_jitter import ColorJitter
from reprkit_vision.views.crop import Crop
from reprkit_vision.views.flip import Flip
from reprkit_vision.views.gray import Gray


class SimCLRViews(Corruption):
    """Crop, flip, color jitter, grayscale and blur in a row (Chen et al. 2020, arXiv 2002.05709, appendix A).

    The same as naming ``crop``, ``flip``, ``colour-jitter``, ``grey`` and ``blur`` in a row.  ``grey`` is left out
    unless the data has three channels.

    Args:
        strength: of the color jitter, 0 to 2: 1 as in the paper for ImageNet, 0.5 as there for CIFAR; 0 leaves out jitter
            and grayscale.
        scale: share of the area that a crop keeps, (lowest, highest).
        flip: whether to mirror images at random; False for digits and letters.
        blur: whether to blur images at random; the paper does not for CIFAR.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, has neither one channel nor three, or has no range.
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
                ColorJitter(0.8 * s, contrast=0.8 * s, saturation=0.8 * s, hue=min(0.5, 0.2 * s), data=data)
            )
            if data is not None and data["x"].channels == 3:
                steps.append(Gray(data=data))
        if blur:
            steps.append(Blur(data=data))
        self.steps = nn.ModuleList(steps)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "b h w c"]]:
        """The batch with ``x`` (b h w c) changed by each augmentation in turn, and which elements any of them changed."""
        view, hit = dict(batch), None
        for step in self.steps:
            view, step_hit = step(view, generator)
            hit = step_hit if hit is None else hit | step_hit
        assert hit is not None  # the crop is always there
        return view, hit
