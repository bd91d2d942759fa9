"""Other brightness, contrast, saturation and hue."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional

from reprkit import Signature
from reprkit.errors import BuildError
from reprkit.registry.constraints import Share
from reprkit_vision.views.base import View, among, each


class ColourJitter(View):
    """Changes brightness, contrast, saturation and hue, in this order (Howard 2013, arXiv 1312.5402).

    Each image has its own factors, uniform in [1 - strength, 1 + strength] (not below 0) and for the hue a
    share of the circle in [-hue, hue]; what each does is what torchvision's ``adjust_brightness``,
    ``adjust_contrast``, ``adjust_saturation`` and ``adjust_hue`` do.  Grey images have neither saturation nor
    hue.  The defaults are SimCLR's (Chen et al. 2020, arXiv 2002.05709, appendix A), which takes half of them
    for CIFAR.

    Args:
        brightness: strength, from 0.
        contrast: strength, from 0.
        saturation: strength, from 0.
        hue: share of the circle, 0 to 0.5.
        p: probability of changing an image.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no images, has neither one channel nor three, or promises no range.
    """

    draws = 4
    colours = (1, 3)

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
        if self.span is None:
            raise BuildError(
                f"{self.title} needs to know which values are black and white, and the data promises no range: "
                "say range=(0, 1) in its signature"
            )
        self.factors = [
            (max(0.0, 1 - strength), 1 + strength) for strength in (brightness, contrast, saturation)
        ]
        self.hue = hue

    def change(self, image: Float[Tensor, "b c h w"], u: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """The images in other colours."""
        low, high = self.span or (0.0, 1.0)
        x = (image - low) / (high - low)
        brightness, contrast, saturation = (each(among(u[:, k], span)) for k, span in enumerate(self.factors))
        x = (x * brightness).clamp(0, 1)
        x = blend(x, functional.rgb_to_grayscale(x).mean((1, 2, 3), keepdim=True), contrast)
        if x.shape[1] == 3:
            x = blend(x, functional.rgb_to_grayscale(x), saturation)
            x = hue_turned(x, among(u[:, 3], (-self.hue, self.hue)))
        return low + (high - low) * x


def blend(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """``share`` of x and the rest of the other, within [0, 1]; a share above 1 goes away from the other."""
    return (other + share * (x - other)).clamp(0, 1)


def hue_turned(x: Float[Tensor, "b 3 h w"], turn: Float[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """Images in [0, 1] with the hue turned by a share of the circle each (Smith 1978, SIGGRAPH, hexcone)."""
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
    made = []
    for place in (5, 3, 1):
        at = (place + sextant) % 6
        made.append(high - spread * torch.minimum(at, 4 - at).clamp(0, 1))
    return torch.stack(made, 1)
