"""Pages of English text, set in many fonts."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le, Predicate
from PIL import Image, ImageDraw, ImageFont

from reprkit import Dataset, Field, Signature
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Seed, ascending
from reprkit_vision.data.letters import FONTS
from reprkit_vision.data.splits import shuffle_indices, split_by_rank
from reprkit_vision.words import topic_words

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SIGNS = ("Symbol", "Dingbats", "D050000L", "Keyboard")  # families with other signs in the letters' places
_Pixels = Annotated[int, Ge(16), Le(8192)]
_Points = Annotated[float, Ge(6), Le(200)]


class Pages(Tensors):
    """Pages of English text, black on white, each in one font, one size and from one text; split by font family and text.

    Texts are the topics of Python's own help, in prose.  Each family of fonts has topics of its own, so that no two parts of a
    split share a family or a text.

    Fields: ``x`` image (h w 1), float32 in [0, 1]; ``family`` label, the family of the page's font: the first two words of a font's
    name.  ``raw(index)`` is the page's text, also in the parts of a split.

    Args:
        size: (h, w) of a page in pixels.
        count: number of pages.
        fonts: "matplotlib" for its 17 (five families), or a folder of .ttf and .otf files, such as "/usr/share/fonts"; those
            without the Latin letters are left out.
        points: size of the letters, from the top of the highest to the foot of the lowest, in pixels, (lowest, highest).
        whole: whole pages with margins; False fills the picture, so that lines and words are cut at its borders, as in a crop.
        seed: of fonts, sizes and texts.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: no such folder, or no two families of fonts in it.
    """

    def __init__(
        self,
        size: tuple[_Pixels, _Pixels] = (64, 64),
        *,
        count: Count = 2000,
        fonts: str = "matplotlib",
        points: Annotated[tuple[_Points, _Points], Predicate(ascending)] = (16, 24),
        whole: bool = False,
        seed: Seed = 0,
    ) -> None:
        families = _families(fonts)
        self.families = sorted(families)
        self.written: list[str] = []
        topics = topic_words()
        pages, owners = [], torch.arange(count) % len(families)
        for number, owner in enumerate(owners.tolist()):
            random = np.random.default_rng((seed, number))
            files = families[self.families[owner]]
            own = topics[owner :: len(families)]
            words = own[int(random.integers(len(own)))]
            start = int(random.integers(max(1, len(words) - 40)))
            font = ImageFont.truetype(files[int(random.integers(len(files)))], random.uniform(*points))
            pixels, text = _set_page(words[start:] + words[:start], font, size, whole, random)
            pages.append(pixels)
            self.written.append(text)
        super().__init__(
            {"x": torch.from_numpy(np.stack(pages)).unsqueeze(-1), "family": owners},
            Signature(
                {
                    "x": Field(kind="image", shape=(*size, 1), range=(0.0, 1.0)),
                    "family": Field(
                        kind="label", shape=(), vocab=len(families), classes=tuple(self.families)
                    ),
                }
            ),
            divisors={"x": 255.0},
            name="pages",
        )

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split into train and test, or train, valid and test, by font family; shares are of families, at least one a part.

        The parts of the families do not depend on size and number of pages.

        Raises:
            DataError: shares out of range, or too few families.
        """
        count = len(self.families)
        rank = torch.empty(count, dtype=torch.int64)
        rank[shuffle_indices(count, seed)] = torch.arange(count)
        shares = (valid, test_share, valid_share)
        return split_by_rank(
            self, rank[self._values["family"]], count, seed, *shares, what="families of fonts"
        )

    def raw(self, index: int) -> str:
        """The text of a page."""
        return self.written[range(len(self))[index]]


def _set_page(
    words: tuple[str, ...],
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
    whole: bool,
    random: np.random.Generator,
) -> tuple[np.ndarray, str]:
    """Set words in lines; return the page (h w) uint8 and the text that it shows."""
    height, width = size
    ascent, descent = font.getmetrics()
    step = (ascent + descent) * random.uniform(1.0, 1.25)
    page = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(page)
    margin = 0.5 * font.size
    top = margin if whole else -random.uniform(0, step)
    left, right = (
        (margin, width - margin) if whole else (-random.uniform(0, 2 * font.size), width + 2 * font.size)
    )
    shown: list[str] = []
    place = 0
    while place < len(words) and (top + ascent + descent < height if whole else top < height):
        line: list[str] = []
        while place < len(words) and left + font.getlength(" ".join([*line, words[place]])) <= right:
            line.append(words[place])
            place += 1
        if not line:  # a word that is longer than a line
            place += 1
            continue
        draw.text((left, top), " ".join(line), fill=0, font=font)
        shown += line
        top += step
    return np.asarray(page), " ".join(shown)


@functools.lru_cache(maxsize=8)
def _families(fonts: str) -> dict[str, list[str]]:
    """Return the files of each family of fonts."""
    if fonts == "matplotlib":
        from matplotlib import get_data_path

        files = [
            Path(get_data_path()) / "fonts" / "ttf" / f"{name}.ttf" for name in FONTS if name != "cmmi10"
        ]
    else:
        folder = Path(fonts).expanduser()
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf"))
    families: dict[str, list[str]] = {}
    for path in files:
        try:
            font = ImageFont.truetype(path, 24)
        except OSError as error:
            raise DataError(f"{path} cannot be read as a font: {error}") from error
        if _has_letters(font) and not any(sign in str(font.getname()[0]) for sign in _SIGNS):
            name = " ".join((font.getname()[0] or path.stem).split()[:2])
            name = "Computer Modern" if name.startswith("cm") else name
            families.setdefault(name, []).append(str(path))
    if len(families) < 2:
        raise DataError(
            f"{fonts!r} has {len(families)} families of fonts with Latin letters, and pages are split by family; use "
            "fonts='matplotlib', or install fonts, such as Debian's fonts-freefont-ttf"
        )
    return families


def _has_letters(font: ImageFont.FreeTypeFont) -> bool:
    """Whether the Latin letters have signs of their own."""
    missing = bytes(font.getmask("\uffff"))
    signs = {bytes(font.getmask(letter)) for letter in _LETTERS}
    return missing not in signs and len(signs) > 40
