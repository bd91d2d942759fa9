"""Tuxpaint's stamps: cut-outs of animals, food, tools and more, in classes by their folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reprkit import Field, Signature
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Share
from reprkit_vision.marks import stamp_kind, stamps_folder


class Stamps(Tensors):
    """About 550 cut-outs of Debian's tuxpaint-stamps-default, after ``reprkit vision fetch stamps``, on a plain background.

    Fields: ``x`` image (size size 3), float32 in [0, 1]; ``label``, the folder that tuxpaint has the stamp in ("animals", "food"),
    with names.  ``split`` keeps stamps together whose names differ in a number or an ending only, such as two drawings of one frog.

    Args:
        size: side of the square that a stamp is fitted into, in pixels.
        least: a class with fewer stamps is left out.
        background: gray value, 1 is white.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: stamps that were not fetched yet or cannot be read, or fewer than two classes.
    """

    def __init__(self, size: Count = 32, *, least: Count = 30, background: Share = 1.0) -> None:
        files = sorted(stamps_folder().glob("*.png"))
        if not files:
            raise DataError(
                f"tuxpaint's stamps are not in {stamps_folder()}\n"
                "  fetch them (161 MB, no root): reprkit vision fetch stamps"
            )
        folders = [path.name.partition("-")[0] for path in files]
        classes = tuple(sorted(name for name, count in Counter(folders).items() if count >= least))
        if len(classes) < 2:
            raise DataError(f"{len(classes)} classes have {least} stamps or more: use a smaller least=")
        chosen = [(path, folder) for path, folder in zip(files, folders, strict=True) if folder in classes]
        self._kinds = [stamp_kind(path) for path, _ in chosen]
        pictures = np.stack([_read(path, size, background) for path, _ in chosen])
        super().__init__(
            {
                "x": torch.from_numpy(pictures),
                "label": torch.tensor([classes.index(folder) for _, folder in chosen]),
            },
            Signature(
                {
                    "x": Field(kind="image", shape=(size, size, 3), range=(0.0, 1.0)),
                    "label": Field(kind="label", shape=(), vocab=len(classes), classes=classes),
                }
            ),
            divisors={"x": 255.0},
            name="stamps",
        )

    def identities(self) -> list[str]:
        """The name of each stamp without its number or ending, by which ``split`` divides."""
        return self._kinds


def _read(path: Path, size: int, background: float) -> np.ndarray:
    """Return a stamp, cropped to what is not transparent, in the middle of a square (size size 3) uint8."""
    try:
        with Image.open(path) as image:
            picture = image.convert("RGBA")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read as an image: {error}\n  fetch again: reprkit vision fetch stamps"
        ) from error
    picture = picture.crop(picture.getchannel("A").getbbox())
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    gray = round(255 * background)
    square = Image.new("RGBA", (size, size), (gray, gray, gray, 255))
    square.alpha_composite(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return np.asarray(square.convert("RGB"))
