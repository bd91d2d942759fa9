"""MNIST's digits, filled with textures: two factors of a picture that are independent of each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from reprkit import Dataset, Field, Signature
from reprkit.data import Tensors
from reprkit.registry.constraints import Seed
from reprkit_vision.data.mnist import Mnist
from reprkit_vision.data.splits import shuffle_indices, split_by_rank

SIDE = 32  # pixels of a picture
_GROUPS = 20  # of digits and of regions of a texture, which a split keeps together
_DARKEST = 0.2  # of a texture; the paper is black
_DRAWN = ("bars", "stripes", "slope", "checks", "dots")
_REAL = ("brick", "grass", "gravel", "cells")


class DigitTexture(Tensors):
    """The 5,000 digits of ``mnist``, larger and with thicker strokes, whose ink is filled with a texture, on black paper.

    Fields: ``x`` image (32 32 1), float32 in [0, 1]; ``label`` the digit, 0 to 9; ``texture`` with names of its classes.  Every
    texture goes with every digit.

    Args:
        textures: "drawn": bars, stripes, slope, checks and dots, which are at one place in all pictures (no random phase); "real":
            crops at random places of four photographs of scikit-image, brick, grass, gravel and cells (immunohistochemistry), at
            half their size (brick: a quarter), without slow changes of light and with equalized gray values.
        seed: of the textures of the digits and of the crops.

    Raises:
        PartArgumentError: an argument out of its range.
    """

    def __init__(self, textures: Literal["drawn", "real"] = "drawn", *, seed: Seed = 0) -> None:
        digits = Mnist()
        batch = digits.batch(range(len(digits)))
        random = np.random.default_rng(seed)
        labels = batch["label"]
        order = torch.from_numpy(random.permutation(len(labels)))
        order = order[labels[order].argsort(stable=True)]
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order)) - torch.searchsorted(labels[order], labels[order])
        self._group = place % _GROUPS
        names = _DRAWN if textures == "drawn" else _REAL
        kind = place // _GROUPS % len(names)  # balanced within each digit and group
        crop = _drawn_crop() if textures == "drawn" else _real_crop()
        pictures = np.empty((len(labels), SIDE, SIDE, 1), np.uint8)
        for number, ink in enumerate(batch["x"][..., 0].numpy()):
            filling = crop(names[int(kind[number])], int(self._group[number]), random)
            filled = _thicken(ink) * (_DARKEST + (1 - _DARKEST) * filling)
            pictures[number, ..., 0] = (255 * filled).round()
        super().__init__(
            {"x": torch.from_numpy(pictures), "label": labels, "texture": kind},
            Signature(
                {
                    "x": Field(kind="image", shape=(SIDE, SIDE, 1), range=(0.0, 1.0)),
                    "label": Field(kind="label", shape=(), vocab=10),
                    "texture": Field(kind="label", shape=(), vocab=len(names), classes=names),
                }
            ),
            divisors={"x": 255.0},
            name="digit-texture",
        )

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split into train and test, or train, valid and test, by twenty groups, each with as many of every digit and texture.

        Parts share neither a handwritten digit nor a region of a real texture.

        Raises:
            DataError: shares out of range, or a part that would be empty.
        """
        rank = torch.empty(_GROUPS, dtype=torch.int64)
        rank[shuffle_indices(_GROUPS, seed)] = torch.arange(_GROUPS)
        shares = (valid, test_share, valid_share)
        return split_by_rank(self, rank[self._group], _GROUPS, seed, *shares, what="groups of digits")


def _thicken(ink: np.ndarray) -> np.ndarray:
    """Return a digit (28 28) in [0, 1] as (32 32), its 20 pixels enlarged to 28, with strokes thicker by a pixel."""
    picture = Image.fromarray((255 * ink).round().astype(np.uint8))
    box = (2.57, 2.57, 25.43, 25.43)  # 22.9 pixels become 32
    large = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    return ndimage.grey_dilation(np.asarray(large, np.float32) / 255, footprint=np.ones((2, 2)))


def _drawn_crop() -> Callable[[str, int, np.random.Generator], np.ndarray]:
    """Return a function from a texture, and a group that it does not depend on, to the texture (SIDE SIDE), 0 or 1."""
    row, column = np.mgrid[:SIDE, :SIDE]
    patterns = (
        row // 2 % 2,
        column // 2 % 2,
        (row + column) // 2 % 2,
        (row // 2 + column // 2) % 2,
        (row % 4 < 2) & (column % 4 < 2),
    )
    drawn = {name: each.astype(np.float32) for name, each in zip(_DRAWN, patterns, strict=True)}
    return lambda name, group, random: drawn[name]


def _real_crop() -> Callable[[str, int, np.random.Generator], np.ndarray]:
    """Return a function from a texture and a group to a crop (SIDE SIDE) in [0, 1] of the group's region of the texture."""
    import skimage.color
    import skimage.data

    photographs = {name: getattr(skimage.data, name)() for name in _REAL[:3]}
    photographs["cells"] = 255 * skimage.color.rgb2gray(skimage.data.immunohistochemistry())
    equal = {}
    for name, pixels in photographs.items():
        side = 128 if name == "brick" else 256  # bricks are larger than strokes
        image = Image.fromarray(pixels.astype(np.uint8)).resize((side, side), Image.Resampling.BOX)
        flat = np.asarray(image, np.float32)
        flat -= ndimage.gaussian_filter(flat, 16)  # without slow changes of light
        equal[name] = (flat.ravel().argsort().argsort() / flat.size).reshape(side, side).astype(np.float32)

    def crop(name: str, group: int, random: np.random.Generator) -> np.ndarray:
        rows, columns = len(equal[name]) // 4, len(equal[name]) // 5  # of a region
        top, left = group // 5 * rows, group % 5 * columns
        region = equal[name][top : top + rows, left : left + columns]
        region = np.pad(region, ((0, max(0, SIDE - rows)), (0, max(0, SIDE - columns))), mode="reflect")
        row, column = (int(random.integers(size - SIDE + 1)) for size in region.shape)
        return region[row : row + SIDE, column : column + SIDE]

    return crop
