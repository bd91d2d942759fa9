"""Watermarks: stamps, logos and words, blended over images."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Predicate
from jaxtyping import Float
from torch import Tensor

from reprkit import Signature
from reprkit.registry.constraints import Seed, Share, ascending
from reprkit_vision.marks import MarkPart, make_marks
from reprkit_vision.views.base import View, per_image, rescale

_TURN = math.radians(20)  # largest rotation of a mark
_EACH = 11  # random numbers of a mark


class Watermark(View):
    """Blends up to ``most`` marks of random opacity, size, place and rotation over images: x + opacity · shape · (mark - x).

    Marks are stamps in their own colors, logos (the outline of a stamp in one color) and words, white, black or of any color; gray
    images take their lightness.  Those of ``part`` are in no other part: a network is trained with ``part='train'`` and measured on
    marks that it has never seen with ``part='test'``.

    Args:
        stamps: "drawn" for shapes that need no files, "fetched" for 638 cut-outs after ``reprkit vision fetch stamps``, or a folder
            of pictures with transparency (.png, .webp).  They are read when the first image is changed.
        part: which marks: of ten groups "train" has seven, "valid" one, "test" two.
        opacity: (lowest, highest).
        size: longer side of a mark in pixels, (lowest, highest).
        most: marks of an image, at most; the number is drawn uniformly.
        p: probability of changing an image.
        seed: of the parts.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image of 1 or 3 channels, or its range is not known.
        DataError: no such stamps, when the first image is changed.
    """

    channel_counts = (1, 3)

    def __init__(
        self,
        *,
        stamps: str = "drawn",
        part: MarkPart = "all",
        opacity: Annotated[tuple[Share, Share], Predicate(ascending)] = (0.3, 0.8),
        size: Annotated[
            tuple[Annotated[float, Ge(1), Le(4096)], Annotated[float, Ge(1), Le(4096)]], Predicate(ascending)
        ] = (20, 48),
        most: Annotated[int, Ge(1), Le(16)] = 2,
        p: Share = 0.8,
        seed: Seed = 0,
        data: Signature | None = None,
    ) -> None:
        super().__init__(p, data)
        self.require_range()
        self.stamps, self.part, self.opacity, self.size = stamps, part, opacity, size
        self.most, self.seed = most, seed
        self._bank: tuple[Tensor, Tensor] | None = None

    def count_draws(self, image: Float[Tensor, "b c h w"]) -> int:
        """The number of marks, and eleven numbers of each mark."""
        return 1 + self.most * _EACH

    def change(self, image: Float[Tensor, "b c h w"], u: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """The images with marks."""
        low, high = self.require_range()
        count = 1 + (u[:, 0] * self.most).long()
        for number in range(self.most):
            mark = self._mark(u[:, 1 + number * _EACH :], image)
            mark = mark * per_image((count > number).to(mark))
            alpha, color = mark[:, 3:], mark[:, :3]
            if image.shape[1] == 1:
                color = color.mean(1, keepdim=True)
            image = image * (1 - alpha) + color * (high - low) + alpha * low
        return image

    def _mark(self, u: Float[Tensor, "b k"], image: Tensor) -> Float[Tensor, "b 4 h w"]:
        """Return one mark for each image on its canvas: premultiplied color and opacity."""
        bank, words = self._marks(image)
        index = (u[:, 0] * len(bank)).long()
        mark = bank[index]
        flat = words[index] | (u[:, 1] < 0.4)
        color = torch.where(u[:, 2:3] < 0.5, (u[:, 2:3] < 0.3).to(u).expand(-1, 3), u[:, 3:6])
        painted = torch.cat([color[:, :, None, None] * mark[:, 3:], mark[:, 3:]], 1)
        mark = torch.where(flat[:, None, None, None], painted, mark) * per_image(
            rescale(u[:, 6], self.opacity)
        )
        height, width = image.shape[2:]
        half = rescale(u[:, 7], self.size) / 2
        turn = rescale(u[:, 8], (-_TURN, _TURN))
        rows = torch.arange(height, device=u.device).add(0.5) - (u[:, 9] * height)[:, None]
        columns = torch.arange(width, device=u.device).add(0.5) - (u[:, 10] * width)[:, None]
        y, x = rows[:, :, None] / half[:, None, None], columns[:, None, :] / half[:, None, None]
        cos, sin = torch.cos(turn)[:, None, None], torch.sin(turn)[:, None, None]
        grid = torch.stack([cos * x + sin * y, cos * y - sin * x], -1)
        return F.grid_sample(mark, grid, padding_mode="zeros", align_corners=False)

    def _marks(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the marks (m 4 side side) in [0, 1] and which are words, on the device of the images."""
        if self._bank is None or self._bank[0].device != image.device:
            marks, words = make_marks(self.stamps, self.part, self.seed)
            self._bank = (
                torch.from_numpy(marks).to(image.device).float() / 255,
                torch.from_numpy(words).to(image.device),
            )
        return self._bank
