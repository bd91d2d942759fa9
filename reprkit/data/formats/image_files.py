"""One picture file to 8-bit values of a given size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from reprkit.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "pad", "stretch"]
SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)


def read_image(
    file: str | Path | BinaryIO, size: tuple[int, int], *, fit: Fit = "crop", gray: bool = False
) -> np.ndarray:
    """The first frame of a picture, upright, as uint8 (h w c).

    Transparent places become white.  16-bit grey is divided by 257, so that its whole range is kept; CMYK,
    palettes and 1-bit become RGB or grey.  Smaller pictures are enlarged; all resizing is bicubic.

    Args:
        file: the picture, or an open file of it.
        size: (h, w).
        fit: "crop" cuts the middle to the shape of ``size``, "pad" adds black borders, "stretch" distorts.
        gray: one channel (luma, ITU-R 601), else three.

    Raises:
        DataError: 32-bit integer values above 65535, or floating-point values, which have no fixed range.
        OSError: it cannot be read; Pillow raises others too.
    """
    from PIL import Image, ImageOps

    with Image.open(file) as opened:
        opened.load()
        upright = ImageOps.exif_transpose(opened)
    plain = _eight_bits(upright).convert("L" if gray else "RGB")
    wide = (size[1], size[0])
    if fit == "stretch":
        sized = plain.resize(wide, Image.Resampling.BICUBIC)
    else:
        sized = (ImageOps.fit if fit == "crop" else ImageOps.pad)(plain, wide, Image.Resampling.BICUBIC)
    values = np.asarray(sized, dtype=np.uint8)
    return values[..., None] if gray else values


def _eight_bits(given: Image.Image) -> Image.Image:
    from PIL import Image

    if given.mode.startswith("I"):
        deep = np.asarray(given).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise DataError(f"its values span {deep.min()} to {deep.max()}, more than 16 bits")
        return Image.fromarray(np.round(deep / 257).astype(np.uint8))
    if given.mode == "F":
        raise DataError("it holds floating-point values, which have no fixed range: use arrays instead")
    if "transparency" in given.info or given.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        clear = given.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return given
