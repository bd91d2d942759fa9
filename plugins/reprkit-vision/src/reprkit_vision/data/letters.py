"""Capital letters, drawn in the fonts that come with matplotlib."""

from __future__ import annotations

import functools
import string
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from PIL import Image, ImageDraw, ImageFont

from reprkit import Dataset, Field, Signature
from reprkit.data import Tensors
from reprkit.registry.constraints import Seed
from reprkit_vision.data.splits import rank_in_class, split_by_rank

# matplotlib's text fonts: DejaVu, STIX and Computer Modern; free licenses.
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
    "cmb10", "cmmi10", "cmr10", "cmss10", "cmti10", "cmtt10",
)  # fmt: skip
_DRAWN = 4  # a letter is drawn this many times larger than its image, and then reduced


class Letters(Tensors):
    """The 26 capital letters, each ``each`` times, in 18 fonts of matplotlib, scaled, sheared, rotated and shifted at random.

    Fields: ``x`` image (28 28 1), float32 in [0, 1], ink on empty paper as in MNIST, about 20 pixels high; ``label``, with the
    letters as names of the classes.  Letters of one font are in all parts of a split: it is drawn stratified by class.

    Args:
        each: number of images of a letter.
        seed: of fonts and transformations.
    """

    def __init__(self, each: Annotated[int, Ge(2), Le(100_000)] = 200, *, seed: Seed = 0) -> None:
        random = np.random.default_rng(seed)
        pixels = np.stack(
            [
                _transform(drawn[int(random.integers(len(drawn)))], random)
                for drawn in _draw_all()
                for _ in range(each)
            ]
        )
        self.each = each
        super().__init__(
            {"x": torch.from_numpy(pixels).unsqueeze(-1), "label": torch.arange(26).repeat_interleave(each)},
            Signature(
                {
                    "x": Field(kind="image", shape=(28, 28, 1), range=(0.0, 1.0)),
                    "label": Field(kind="label", shape=(), vocab=26, classes=tuple(string.ascii_uppercase)),
                }
            ),
            divisors={"x": 255.0},
            name="letters",
        )

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.1, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split into train and test, or train, valid and test, each letter equally often in every part.

        Raises:
            DataError: shares out of range, or a part that would be empty.
        """
        rank = rank_in_class(self.batch(torch.arange(len(self)))["label"], seed)
        return split_by_rank(
            self, rank, self.each, seed, valid, test_share, valid_share, what="images a letter"
        )


@functools.cache
def _draw_all() -> list[list[Image.Image]]:
    """Every letter in every font."""
    from matplotlib import get_data_path

    fonts = [ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{font}.ttf", 100) for font in FONTS]
    return [[_draw(letter, font) for font in fonts] for letter in string.ascii_uppercase]


def _draw(letter: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The letter, white on black, at four times the size: in the middle, 20 pixels long on its larger side, as in MNIST."""
    drawn = Image.new("L", (240, 240))
    ImageDraw.Draw(drawn).text((60, 50), letter, fill=255, font=font)
    ink = drawn.crop(drawn.getbbox())
    scale = 20 * _DRAWN / max(ink.size)
    width, height = (max(1, round(side * scale)) for side in ink.size)
    side = 28 * _DRAWN
    image = Image.new("L", (side, side))
    image.paste(ink.resize((width, height)), ((side - width) // 2, (side - height) // 2))
    return image


def _transform(glyph: Image.Image, random: np.random.Generator) -> np.ndarray:
    """Scale by 0.8 to 1.05, shear by up to 0.25, rotate by up to 12 degrees, shift by up to a pixel: (28 28) uint8."""
    angle = np.deg2rad(random.uniform(-12, 12))
    wide, high = random.uniform(0.8, 1.05, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = np.linalg.inv(turn @ np.array([[1, random.uniform(-0.25, 0.25)], [0, 1]]) @ np.diag([wide, high]))
    center = np.full(2, glyph.size[0] / 2)
    offset = center - back @ (center + random.uniform(-1, 1, 2) * _DRAWN)
    matrix = np.column_stack([back, offset]).ravel()
    moved = glyph.transform(glyph.size, Image.Transform.AFFINE, tuple(matrix), Image.Resampling.BILINEAR)
    return np.asarray(moved.resize((28, 28), Image.Resampling.BOX))
