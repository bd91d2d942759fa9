"""Random crops, resized to the image's size."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Predicate
from jaxtyping import Float, Int
from torch import Tensor

from reprkit import Signature
from reprkit.registry.constraints import Share, ascending
from reprkit_vision.views.base import View, rescale

_TRIES = 10


class Crop(View):
    """Crops a random part of each image and resizes it to the image's size (Szegedy et al. 2014, arXiv 1409.4842).

    Area and aspect ratio are drawn as in torchvision's ``RandomResizedCrop``: up to ten tries, then the
    largest center crop.  Resizing is bilinear; as a crop is only ever enlarged, the result
    equals ``resized_crop``, antialiased or not.

    Args:
        scale: share of the area that is kept, (lowest, highest) in (0, 1].
        ratio: width over height of the crop, in pixels, (lowest, highest) from 0.1 to 10.
        p: probability of changing an image.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image.
    """

    draws = 2 * _TRIES + 2

    def __init__(
        self,
        scale: Annotated[
            tuple[Annotated[float, Ge(1e-6), Le(1)], Annotated[float, Ge(1e-6), Le(1)]], Predicate(ascending)
        ] = (0.08, 1.0),
        *,
        ratio: Annotated[
            tuple[Annotated[float, Ge(0.1), Le(10)], Annotated[float, Ge(0.1), Le(10)]], Predicate(ascending)
        ] = (3 / 4, 4 / 3),
        p: Share = 1.0,
        data: Signature | None = None,
    ) -> None:
        super().__init__(p, data)
        self.scale = scale
        self.ratio = ratio

    def change(self, image: Float[Tensor, "b c h w"], u: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """The resized crops."""
        top, left, height, width = self.boxes(u, *image.shape[2:])
        rows = _sampling_positions(top, height, image.shape[2])
        columns = _sampling_positions(left, width, image.shape[3])
        size = len(image), image.shape[2], image.shape[3]
        grid = torch.stack([columns[:, None, :].expand(size), rows[:, :, None].expand(size)], -1)
        return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)

    def boxes(self, u: Float[Tensor, "b k"], rows: int, columns: int) -> tuple[Int[Tensor, " b"], ...]:
        """Top, left, height and width of each crop, in pixels."""
        area = rescale(u[:, :_TRIES], self.scale) * rows * columns
        ratio = rescale(u[:, _TRIES : 2 * _TRIES], (math.log(self.ratio[0]), math.log(self.ratio[1]))).exp()
        width, height = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (width >= 1) & (width <= columns) & (height >= 1) & (height <= rows)
        first = fits.long().argmax(1, keepdim=True)  # the first try that fits
        found = fits.any(1)
        shape = min(max(columns / rows, self.ratio[0]), self.ratio[1])
        middle = min(rows, round(columns / shape)), min(columns, round(rows * shape))
        height = torch.where(found, height.gather(1, first).squeeze(1), middle[0])
        width = torch.where(found, width.gather(1, first).squeeze(1), middle[1])
        top = torch.where(found, (u[:, -2] * (rows - height + 1)).long(), (rows - height) // 2)
        left = torch.where(found, (u[:, -1] * (columns - width + 1)).long(), (columns - width) // 2)
        return top, left, height, width


def _sampling_positions(
    start: Int[Tensor, " b"], length: Int[Tensor, " b"], size: int
) -> Float[Tensor, "b size"]:
    """Positions in [-1, 1] of ``size`` samples of a crop on an axis of ``size`` pixels; no pixel outside the crop is read."""
    position = (torch.arange(size, device=start.device) + 0.5) * (length / size).unsqueeze(1) - 0.5
    position = torch.minimum(position.clamp(min=0), (length - 1).unsqueeze(1)) + start.unsqueeze(1)
    return position * (2 / max(1, size - 1)) - 1
