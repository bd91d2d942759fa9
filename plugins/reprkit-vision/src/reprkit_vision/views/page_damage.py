"""What befalls a page before it is read: folds, stains, shadows, low light, blur, noise, JPEG."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from reprkit import Signature
from reprkit.registry.constraints import Share
from reprkit_vision.views.base import View, per_image, rescale

_PARAMETERS = 24  # random numbers of an image, without its noise
_LARGEST_BLUR = 1.5  # pixels
# The quantization table of luminance (ITU-T T.81, annex K.1).
_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


class PageDamage(View):
    """Damages pages, black on white, as photographs and scans of old ones are: in this order, each of random strength.

    Faded ink, toned paper, two stains with a dark rim, a fold, a shadow's gradient and low light (products); Gaussian blur of 0.4
    to 1.5 pixels, Gaussian noise, and JPEG of quality 10 to 60 (each channel as luminance), all in proportion to ``strength``.

    Args:
        strength: 1 is a page that is hard to read at 16 to 24 pixels a line; 0 changes little.
        p: probability of changing an image.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, or its range is not known.
    """

    def __init__(
        self,
        *,
        strength: Annotated[float, Ge(0), Le(2)] = 1.0,
        p: Share = 1.0,
        data: Signature | None = None,
    ) -> None:
        super().__init__(p, data)
        self.require_range()
        self.strength = strength

    def count_draws(self, image: Float[Tensor, "b c h w"]) -> int:
        """The parameters, and the noise of each pixel."""
        return _PARAMETERS + image[0].numel()

    def change(self, image: Float[Tensor, "b c h w"], u: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """The damaged images."""
        low, high = self.require_range()
        s = self.strength
        x = (image - low) / (high - low)
        x = 1 - (1 - x) * per_image(1 - 0.4 * s * u[:, 0]).clamp(min=0)
        x = x * self._light(image, u)
        x = _blur(x, per_image(rescale(u[:, 20], (0.4, _LARGEST_BLUR)) * s))
        noise = torch.erfinv((2 * u[:, _PARAMETERS:] - 1).clamp(-1 + 1e-6, 1 - 1e-6)) * math.sqrt(2)
        x = x + per_image(0.06 * s * u[:, 21]) * noise.view_as(x)
        quality = rescale(u[:, 22], (10, 60)) + (1 - s) * 40
        x = jpeg(x.clamp(0, 1), quality.clamp(1, 100).round())
        return x * (high - low) + low

    def _light(self, image: Tensor, u: Float[Tensor, "b k"]) -> Float[Tensor, "b 1 h w"]:
        """Return the product of paper, stains, fold, shadow and light."""
        s, (height, width) = self.strength, image.shape[2:]
        rows = torch.arange(height, device=u.device).add(0.5)[None, :, None]
        columns = torch.arange(width, device=u.device).add(0.5)[None, None, :]

        def column(number: int) -> Tensor:
            return u[:, number, None, None]

        light = (1 - 0.25 * s * column(1)) * (1 - 0.5 * s * column(2))
        for first in (3, 7):
            distance = torch.hypot(rows - column(first) * height, columns - column(first + 1) * width)
            radius = 8 + 60 * column(first + 2)
            inside = torch.sigmoid((radius - distance) / 3)
            rim = torch.exp(-((distance - radius) / 3).square())
            light = light * (1 - 0.35 * s * column(first + 3) * (0.7 * inside + 0.3 * rim))
        across = _across(rows - column(11) * height, columns - column(12) * width, column(13))
        fold = torch.exp(-(across / (0.8 + 1.5 * column(14))).square()) + 0.3 * torch.sigmoid(across / 4)
        light = light * (1 - 0.5 * s * (column(15) - 0.4).clamp(min=0) / 0.6 * fold)
        across = _across(rows - height / 2, columns - width / 2, column(16))
        slope = torch.sigmoid(across / (16 + 200 * column(17)) + 4 * (column(18) - 0.5))
        return (light * (1 - 0.6 * s * column(19) * slope)).clamp(0, 1).unsqueeze(1)


def _across(rows: Tensor, columns: Tensor, turn: Tensor) -> Tensor:
    """Return the signed distance from a line whose normal is at ``turn`` of a full turn."""
    return torch.cos(2 * math.pi * turn) * columns + torch.sin(2 * math.pi * turn) * rows


def _blur(x: Float[Tensor, "b c h w"], sigma: Float[Tensor, "b 1 1 1"]) -> Float[Tensor, "b c h w"]:
    """Blur each image by its own Gaussian; the border is continued."""
    half = 6
    steps = torch.arange(-half, half + 1, device=x.device)
    weight = torch.softmax(-0.5 * (steps / sigma.flatten(1).clamp(min=1e-3)).square(), 1)
    height, width = x.shape[2:]
    x = F.pad(x, (half, half, half, half), mode="replicate")
    x = sum((per_image(weight[:, k]) * x[:, :, k : k + height] for k in range(2 * half + 1)), x.new_zeros(()))
    return sum(
        (per_image(weight[:, k]) * x[..., k : k + width] for k in range(2 * half + 1)), x.new_zeros(())
    )


def jpeg(x: Float[Tensor, "b c h w"], quality: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Return what is left of images in [0, 1] after JPEG at a quality for each (1 to 100), every channel as luminance.

    Blocks of 8 x 8 pixels, the cosine transform, rounding to multiples of the table's entries (ITU-T T.81), and back; entropy
    coding loses nothing.
    """
    height, width = x.shape[2:]
    padded = F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = padded.mul(255).round().sub(128).unflatten(3, (-1, 8)).unflatten(2, (-1, 8))  # b c i 8 j 8
    frequency = torch.arange(8, device=x.device, dtype=x.dtype)
    basis = torch.cos((2 * frequency + 1) * frequency[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    table = torch.tensor(_TABLE, device=x.device, dtype=x.dtype)
    table = ((table * scale[:, None, None] + 50) / 100).floor().clamp(1, 255)[:, None, None, :, None, :]
    found = torch.einsum("ku,bciujv,lv->bcikjl", basis, blocks, basis)
    found = (found / table).round() * table
    back = torch.einsum("ku,bcikjl,lv->bciujv", basis, found, basis)
    back = back.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]
    return back.add(128).round().clamp(0, 255) / 255
