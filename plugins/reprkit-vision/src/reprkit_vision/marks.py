"""Marks with transparency for watermarks: cut-outs, drawn shapes, and words, in parts that share none."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from reprkit.errors import DataError
from reprkit.utils.cache import cache_folder
from reprkit_vision.data.letters import FONTS
from reprkit_vision.words import topic_words

MarkPart = Literal["all", "train", "valid", "test"]
SIDE = 48  # pixels of a mark's square
_WORDS = 320  # words that are drawn, of all parts
_SHAPES = 240  # shapes that are drawn, of all parts
_TENTHS = {"train": range(7), "valid": range(7, 8), "test": range(8, 10), "all": range(10)}


def stamps_folder() -> Path:
    """Return the folder that ``reprkit vision fetch stamps`` fills."""
    return cache_folder("vision") / "stamps"


@functools.lru_cache(maxsize=8)
def make_marks(stamps: str, part: MarkPart, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the marks of a part, (m 4 side side) uint8 with premultiplied colors, and which of them are words (m,).

    Files, shapes, words and fonts are dealt to ten groups by ``seed``: seven for train, one for valid, two for test.  Files whose
    names differ in a number or an ending only are in one group.

    Args:
        stamps: "drawn" for shapes, "fetched" for tuxpaint's cut-outs, or a folder of pictures with transparency.
        part: of the marks.
        seed: of the groups.

    Raises:
        DataError: no such folder, too few pictures for the part, or one that cannot be read or is empty.
    """
    tenths = _TENTHS[part]
    if stamps == "drawn":
        pictures = [_draw_shape(number, seed) for number in range(_SHAPES) if number % 10 in tenths]
    else:
        pictures = list(_read_stamps(stamps, tenths, seed))
    words = [_draw_word(number, seed) for number in range(_WORDS) if number % 10 in tenths]
    marks = np.stack([_premultiply(each) for each in pictures + words])
    return marks, np.arange(len(marks)) >= len(pictures)


def stamp_kind(path: Path) -> str:
    """Return a stamp's name without its folders, number and ending: files that differ in these alone show much the same."""
    return re.split(r"[-_.]?\d|_", path.stem.rpartition("-")[2])[0] or path.stem


def _read_stamps(stamps: str, tenths: range, seed: int) -> Iterator[Image.Image]:
    folder = stamps_folder() if stamps == "fetched" else Path(stamps).expanduser()
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".webp"))
    if not files:
        advice = (
            "\n  fetch tuxpaint's (161 MB, no root): reprkit vision fetch stamps"
            if stamps == "fetched"
            else ""
        )
        raise DataError(f"{folder} holds no pictures with transparency (.png, .webp){advice}")
    names = [stamp_kind(path) for path in files]
    kinds = sorted(set(names))
    order = np.random.default_rng(seed).permutation(len(kinds))
    group = {kinds[kind]: place % 10 for place, kind in enumerate(order)}
    chosen = [path for path, name in zip(files, names, strict=True) if group[name] in tenths]
    if not chosen:
        raise DataError(
            f"{folder} has {len(kinds)} pictures of different names, too few for each part to have one"
        )
    for path in chosen:
        try:
            with Image.open(path) as image:
                picture = image.convert("RGBA")
        except OSError as error:
            raise DataError(f"{path} cannot be read as an image: {error}") from error
        box = picture.getchannel("A").getbbox()
        if box is None:
            raise DataError(f"{path} is transparent everywhere: it is no stamp")
        yield _fit(picture.crop(box))


def _fit(picture: Image.Image) -> Image.Image:
    """Fit a cut-out into the square."""
    scale = SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = Image.new("RGBA", (SIDE, SIDE))
    resized = picture.resize((width, height), Image.Resampling.LANCZOS)
    square.paste(resized, ((SIDE - width) // 2, (SIDE - height) // 2))
    return square


def _draw_shape(number: int, seed: int) -> Image.Image:
    """Draw a logo of one to three polygons, ellipses and rings of random colors."""
    random = np.random.default_rng((seed, 1, number))
    side = 4 * SIDE
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    for layer in range(int(random.integers(1, 4))):
        color = (*(int(value) for value in random.integers(0, 256, 3)), 255)
        radius = side / 2 * random.uniform(0.4, 0.95) * 0.8**layer
        corners = int(random.integers(3, 10))
        turns = np.sort(random.uniform(0, 2 * np.pi, corners))
        lengths = radius * random.uniform(0.4, 1.0, corners)
        center = side / 2
        box = (center - radius, center - radius * random.uniform(0.4, 1), center + radius, center + radius)
        kind = int(random.integers(3))
        if kind == 0:
            points = np.stack([center + lengths * np.cos(turns), center + lengths * np.sin(turns)], 1)
            draw.polygon([(float(x), float(y)) for x, y in points], fill=color)
        elif kind == 1:
            draw.ellipse(box, fill=color)
        else:
            draw.ellipse(box, outline=color, width=int(side * random.uniform(0.04, 0.12)))
    return _fit(image.crop(image.getbbox()))


def _draw_word(number: int, seed: int) -> Image.Image:
    """Draw a word in white; words and fonts of different tenths differ."""
    from matplotlib import get_data_path

    random = np.random.default_rng((seed, 2, number))
    vocabulary = _vocabulary()
    word = vocabulary[int(random.integers(len(vocabulary) // 10)) * 10 + number % 10]
    fonts = fonts_of(number % 10, seed)
    font_name = fonts[int(random.integers(len(fonts)))]
    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{font_name}.ttf", 64)
    text = word.upper() if random.random() < 0.5 else word.capitalize()
    box = font.getbbox(text)
    image = Image.new("RGBA", (int(box[2]) + 8, int(box[3]) + 8), (255, 255, 255, 0))
    ImageDraw.Draw(image).text((4, 4), text, fill=(255, 255, 255, 255), font=font)
    return _fit(image.crop(image.getbbox()))


def fonts_of(tenth: int, seed: int) -> tuple[str, ...]:
    """Return the fonts of one of the ten groups of words: one or two, which no other group has."""
    return tuple(np.random.default_rng((seed, 3)).permutation(np.array(FONTS))[tenth::10].tolist())


@functools.cache
def _vocabulary() -> list[str]:
    words = {word.strip(".,;:").lower() for topic in topic_words() for word in topic}
    return sorted(word for word in words if 3 <= len(word) <= 10 and word.isalpha())


def _premultiply(picture: Image.Image) -> np.ndarray:
    """Return (4 side side) uint8, colors times opacity."""
    pixels = np.array(picture, np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return pixels.round().astype(np.uint8).transpose(2, 0, 1)
