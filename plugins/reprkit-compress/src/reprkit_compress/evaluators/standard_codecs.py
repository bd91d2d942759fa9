"""Pictures of 8 bits in the files of standard codecs, by Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, features

from reprkit.errors import DataError

# Pillow's options of each codec; where there are several, the best one at each size counts.
_OPTIONS: dict[str, tuple[dict[str, object], ...]] = {
    "jpeg": (
        {"optimize": True, "subsampling": "4:2:0"},
        {"optimize": True, "subsampling": "4:4:4"},
        {"optimize": True, "progressive": True, "subsampling": "4:2:0"},
        {"optimize": True, "progressive": True, "subsampling": "4:4:4"},
    ),
    "webp": ({"method": 6},),
    "avif": ({},),
}
CODECS = tuple(_OPTIONS)


@dataclass(frozen=True)
class Coded:
    """A picture in a codec's file: the number of bytes, and what it decodes to (h w c), uint8."""

    size: int
    decoded: np.ndarray


def available(codec: str) -> bool:
    """Whether Pillow was built with a codec."""
    return codec == "jpeg" or bool(features.check(codec))


def code(picture: np.ndarray, codec: str, quality: int) -> list[Coded]:
    """Write and read a picture (h w c) of uint8 with each of the codec's options at a quality.

    Raises:
        DataError: Pillow cannot write the picture.
    """
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    found = []
    for options in _OPTIONS[codec]:
        if image.mode == "L" and options.get("subsampling") == "4:4:4":
            continue  # gray pictures have no colors to subsample
        given = {k: v for k, v in options.items() if image.mode != "L" or k != "subsampling"}
        file = io.BytesIO()
        try:
            image.save(file, codec.upper(), quality=quality, **given)
            with Image.open(io.BytesIO(file.getvalue())) as opened:
                decoded = np.array(opened.convert(image.mode)).reshape(picture.shape)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{codec} cannot code a picture of {picture.shape[0]} x {picture.shape[1]}: {error}"
            ) from error
        found.append(Coded(len(file.getvalue()), decoded))
    return found
