"""Read an image file as 8-bit values, resized to a given size."""

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
    file: str | Path | BinaryIO | Image.Image, size: tuple[int, int], *, fit: Fit = "crop", gray: bool = False
) -> np.ndarray:
    """Read the first frame of an image, upright (EXIF orientation applied), as uint8 (h w c).

    Transparent pixels become white.  16-bit grayscale is divided by 257, so that its whole range is kept; CMYK,
    palettes and 1-bit become RGB or grayscale.  Smaller images are enlarged; all resizing is bicubic.

    Args:
        file: path of the image, an open file, or an image of Pillow.
        size: (h, w).
        fit: "crop" crops the center to the aspect ratio of ``size``, "pad" adds black borders, "stretch" distorts.
        gray: one channel (luma, ITU-R 601), else three.

    Raises:
        DataError: 32-bit integer values above 65535, or floating-point values, which have no fixed range.
        OSError: the file cannot be read; Pillow raises other exceptions too.
    """
    from PIL import Image, ImageOps

    if isinstance(file, Image.Image):
        upright = ImageOps.exif_transpose(file)
    else:
        with Image.open(file) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
    plain = _to_8_bit(upright).convert("L" if gray else "RGB")
    width_height = (size[1], size[0])
    if fit == "stretch":
        resized = plain.resize(width_height, Image.Resampling.BICUBIC)
    else:
        resized = (ImageOps.fit if fit == "crop" else ImageOps.pad)(
            plain, width_height, Image.Resampling.BICUBIC
        )
    values = np.asarray(resized, dtype=np.uint8)
    return values[..., None] if gray else values


def _to_8_bit(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise DataError(f"its values span {deep.min()} to {deep.max()}, more than 16 bits")
        return Image.fromarray(np.round(deep / 257).astype(np.uint8))
    if image.mode == "F":
        raise DataError("it holds floating-point values, which have no fixed range: use arrays instead")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return image
