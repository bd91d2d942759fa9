"""Random brightness, contrast, saturation and hue."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional

from reprkit import Signature
from reprkit.registry.constraints import Share
from reprkit_vision.views.base import View, per_image, rescale


class ColorJitter(View):
    """Changes brightness, contrast, saturation and hue, in this order (Howard 2013, arXiv 1312.5402).

    Each image has its own factors, uniform in [1 - strength, 1 + strength] (not below 0), and its hue is shifted by
    a share of the color circle, uniform in [-hue, hue].  The changes equal torchvision's ``adjust_brightness``,
    ``adjust_contrast``, ``adjust_saturation`` and ``adjust_hue``.  Saturation and hue of gray images stay unchanged.
    The defaults are SimCLR's (Chen et al. 2020, arXiv 2002.05709, appendix A), which uses half of them for CIFAR.

    Args:
        brightness: strength, 0 to 10.
        contrast: strength, 0 to 10.
        saturation: strength, 0 to 10.
        hue: share of the color circle, 0 to 0.5.
        p: probability of changing an image.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, has neither one channel nor three, or has no range.
    """

    draws = 4
    channel_counts = (1, 3)

    def __init__(
        self,
        brightness: Annotated[float, Ge(0), Le(10)] = 0.8,
        *,
        contrast: Annotated[float, Ge(0), Le(10)] = 0.8,
        saturation: Annotated[float, Ge(0), Le(10)] = 0.8,
        hue: Annotated[float, Ge(0), Le(0.5)] = 0.2,
        p: Share = 0.8,
        data: Signature | None = None,
    ) -> None:
        super().__init__(p, data)
        self.require_range()
        self.factors = [
            (max(0.0, 1 - strength), 1 + strength) for strength in (brightness, contrast, saturation)
        ]
        self.hue = hue

    def change(self, image: Float[Tensor, "b c h w"], u: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """The images with changed colors."""
        low, high = self.require_range()
        x = (image - low) / (high - low)
        brightness, contrast, saturation = (
            per_image(rescale(u[:, k], factor)) for k, factor in enumerate(self.factors)
        )
        x = (x * brightness).clamp(0, 1)
        x = blend(x, functional.rgb_to_grayscale(x).mean((1, 2, 3), keepdim=True), contrast)
        if x.shape[1] == 3:
            x = blend(x, functional.rgb_to_grayscale(x), saturation)
            x = rotate_hue(x, rescale(u[:, 3], (-self.hue, self.hue)))
        return low + (high - low) * x


def blend(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """``share * x + (1 - share) * other``, clipped to [0, 1]; a share above 1 extrapolates away from ``other``."""
    return (other + share * (x - other)).clamp(0, 1)


def rotate_hue(x: Float[Tensor, "b 3 h w"], turn: Float[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """Shift the hue of images in [0, 1] by a share of the color circle each (Smith 1978, SIGGRAPH, hexcone)."""
    red, green, blue = x.unbind(1)
    low, high = torch.aminmax(x, dim=1)
    spread = high - low
    safe = torch.where(spread > 0, spread, 1)
    sextant = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sextant = sextant + 6 * turn.view(-1, 1, 1)
    channels = []
    for offset in (5, 3, 1):  # red, green, blue
        position = (offset + sextant) % 6
        channels.append(high - spread * torch.minimum(position, 4 - position).clamp(0, 1))
    return torch.stack(channels, 1)
