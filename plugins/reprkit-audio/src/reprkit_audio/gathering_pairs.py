"""Gather pictures with sounds from unpacked packages: Tux Paint's stamps that make a noise, and the things of qABCs."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from reprkit.data import sound
from reprkit.utils.cache import cache_folder
from reprkit_audio.waveforms import is_silent

PACKAGES = ("tuxpaint-stamps-default", "qabcs-data")
_SIDE = 256  # pixels that a picture's longer side has at most
_STAMPS, _QABCS = "usr/share/tuxpaint/stamps", "usr/share/qabcs/abcs/all"


def pairs_folder() -> Path:
    """Return the folder that ``reprkit voice fetch sounding`` fills."""
    return cache_folder("audio") / "sounding"


def gather_pairs(unpacked: Path, fresh: Path) -> int:
    """Fill a folder with the pairs of the unpacked packages, and return their number.

    A pair is ``GROUP/SOURCE--NAME.png`` and ``.ogg``.  Pairs whose names share a word are in one group: cow and white cow.  Letters
    are left out, since their sounds are spoken, drawings in SVG, which Pillow does not decode, and silent sounds (a giraffe's).
    Sounds are copied; a picture becomes a square with transparent borders, of at most 256 pixels.

    Raises:
        DataError: a sound that cannot be read.
    """
    every = [*_stamps(unpacked / _STAMPS), *_things(unpacked / _QABCS)]
    found = [pair for pair in every if not is_silent(sound.read(pair[2]))]
    for group, (name, picture, noise) in zip(group_names([name for name, *_ in found]), found, strict=True):
        (fresh / group).mkdir(exist_ok=True)
        _write_square(picture, fresh / group / f"{name}.png")
        shutil.copy(noise, fresh / group / f"{name}.ogg")
    return len(found)


def group_names(names: Sequence[str]) -> list[str]:
    """Return a group for each ``SOURCE--NAME``: names that share a word, also by way of others, are in one.

    A group is called by the most frequent of its words, the first in the alphabet of several.  Words have three letters or more,
    and a plural is the same word.
    """
    words = [_words(name) for name in names]
    counts = Counter(word for each in words for word in each)
    parent = {word: word for word in counts}

    def root(word: str) -> str:
        while parent[word] != word:
            word = parent[word]
        return word

    for each in words:
        for other in each[1:]:
            one, two = root(each[0]), root(other)
            parent[max(one, two)] = min(one, two)
    best: dict[str, str] = {}
    for word in sorted(counts, key=lambda word: (-counts[word], word)):
        best.setdefault(root(word), word)
    return [best[root(each[0])] for each in words]


def _words(name: str) -> list[str]:
    """Return the words of a name, at least one."""
    last = name.rpartition("--")[2].lower()
    found = [re.sub(r"(?<=[a-z]{3}[^s])s$", "", word) for word in re.findall(r"[a-z]{3,}", last)]
    return list(dict.fromkeys(found)) or [last]


def _stamps(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the name, picture and noise of each stamp that has one; spoken names are files of their own."""
    for picture in sorted(root.rglob("*.png")):
        noise = picture.with_suffix(".ogg")
        folders = picture.relative_to(root).parts[:-1]
        if noise.is_file() and "alphabets" not in folders:
            yield "-".join(("tuxpaint", *folders)) + f"--{picture.stem}", picture, noise


def _things(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the name, picture and noise of each thing of qABCs."""
    for picture in sorted((root / "pics").rglob("*.png")):
        noise = root / "noises" / f"{picture.stem}.ogg"
        if noise.is_file():
            yield f"qabcs-{picture.parent.name}--{picture.stem}", picture, noise


def _write_square(source: Path, target: Path) -> None:
    """Write a picture, cropped to what is not transparent, in the middle of a transparent square."""
    from PIL import Image

    with Image.open(source) as opened:
        picture = opened.convert("RGBA")
    picture = picture.crop(picture.getchannel("A").getbbox())
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    side = max(picture.size)
    square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    square.save(target)
