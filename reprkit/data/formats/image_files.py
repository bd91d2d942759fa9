"""Read an image file as 8-bit values, or as 16-bit levels of a given range, resized to a given size."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from reprkit.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "pad", "stretch"]
# Formats that Pillow registers and that are no pictures here: it runs Ghostscript for them (EPS), it only identifies them or needs
# Windows (BUFR, GRIB, HDF5, WMF), or they are video and metadata (FLI, MPEG, IPTC).
_EXCLUDED = frozenset(("BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"))
_HEIC = (".heic", ".heif", ".hif")
_DEEP = 65535.0  # largest value of 16 bits
_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)  # ITU-R 601
_MIN_PEAK = 1 << 14  # 16-bit pictures whose values all lie below this have fewer bits


@dataclass
class Depths:
    """What was found about pictures of more than 8 bits while files were read.

    Attributes:
        gray: pictures of 16-bit gray levels, which are reduced to 8 bits unless there is a range.
        peak: the largest value among them.
        colors: pictures of 16-bit colors read as 8 bits: Pillow decodes the upper ones, and torchvision all where there is a range.
    """

    gray: int = 0
    peak: int = 0
    colors: int = 0

    def check(self, folder: Path) -> None:
        """Raise if 16-bit pictures use a small part of their range, so that few levels would be left.

        Raises:
            DataError: all values lie below 2**14.
        """
        if self.gray and self.peak < _MIN_PEAK:
            bits = max(8, int(self.peak).bit_length())
            raise DataError(
                f"{str(folder)!r} holds {self.gray:,} pictures of 16 bits with values up to {self.peak} of 65535: read as 8 bits "
                f"they would have at most {self.peak // 257 + 1} gray levels\n"
                f"  say which values are black and white: range=(0, {2**bits - 1}) for {bits} bits, or range=(0, 65535)"
            )

    def facts(self) -> dict[str, Any]:
        """Return the entries for ``describe``: the number of pictures whose levels were reduced to 8 bits."""
        return {"reduced_count": self.gray + self.colors} if self.gray + self.colors else {}


@functools.cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of the files that Pillow decodes here: with HEIC if pillow-heif is installed."""
    from PIL import Image

    register_decoders()
    Image.init()
    formats = {*Image.OPEN, "MPO"} - _EXCLUDED  # Pillow's JPEG decoder opens MPO
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def undecoded() -> dict[str, str]:
    """Return the suffixes of pictures that cannot be decoded here: suffix -> what to do."""
    advice = "HEIC is decoded by pillow-heif: pip install 'reprkit[heic]'"
    return {suffix: advice for suffix in _HEIC if suffix not in suffixes()}


@functools.cache
def register_decoders() -> bool:
    """Register pillow-heif with Pillow, once a process; return whether it is installed."""
    try:
        from pillow_heif import register_heif_opener
    except (ImportError, OSError):  # OSError: its library is missing
        return False
    register_heif_opener()
    return True


def read_image(
    file: str | Path | BinaryIO | Image.Image,
    size: tuple[int, int] | None,
    *,
    fit: Fit = "crop",
    gray: bool = False,
    range: tuple[float, float] | None = None,
    depths: Depths | None = None,
) -> np.ndarray:
    """Read the first frame of an image, upright (EXIF orientation applied), as uint8 or uint16 (h w c).

    Transparent pixels become white.  CMYK, palettes and 1-bit become RGB or grayscale.  Smaller images are enlarged; all
    resizing is bicubic.  Without ``range`` values are 8 bits, and 16-bit grayscale is divided by 257.  With ``range`` they are
    uint16: 0 for the lower and 65535 for the upper end, so that 16-bit levels are kept; those of colors only in PNG files, and
    where torchvision is installed.

    Args:
        file: path of the image, an open file, or an image of Pillow.
        size: (h, w); None for the image's own.
        fit: "crop" crops the center to the aspect ratio of ``size``, "pad" adds black borders, "stretch" distorts.
        gray: one channel (luma, ITU-R 601), else three.
        range: the values in the file that are black and white: (0, 4095) for 12 bits.
        depths: counts pictures of more than 8 bits.

    Raises:
        DataError: values out of ``range``, or 16-bit colors that cannot be decoded; without it 32-bit integer values above
            65535, or floating-point values.
        OSError: the file cannot be read; Pillow raises other exceptions too.
    """
    from PIL import Image, ImageOps

    reduced = False
    if isinstance(file, Image.Image):
        upright = ImageOps.exif_transpose(file)
    else:
        register_decoders()
        with Image.open(file) as opened:
            reduced = _is_reduced(opened)
            if reduced and range is not None:
                if opened.format != "PNG":
                    raise DataError(
                        "it has 16-bit colors, of which Pillow decodes 8 bits: convert it to PNG or to arrays"
                    )
                deep = _decode_16_bit_colors(_content(file))
                return _to_levels(deep if not gray else deep @ _LUMA, size, fit, gray, range)
            opened.load()
            upright = ImageOps.exif_transpose(opened)
    if range is not None:
        return _read_levels(upright, size, fit, gray, range)
    if depths is not None:
        depths.colors += reduced
    plain = _to_8_bit(upright, depths).convert("L" if gray else "RGB")
    values = np.asarray(_resize(plain, size, fit), dtype=np.uint8)
    return values[..., None] if gray else values


def _read_levels(
    image: Image.Image, size: tuple[int, int] | None, fit: Fit, gray: bool, range: tuple[float, float]
) -> np.ndarray:
    """Return uint16 (h w c): the range's ends are 0 and 65535."""
    low, high = range
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float32)[..., None]
    elif not (low >= 0 and high <= 255):
        raise DataError(f"it has 8 bits, and range=({low:g}, {high:g}) is not within 0 to 255")
    else:
        values = np.asarray(_flatten(image).convert("L" if gray else "RGB")).astype(np.float32)
        values = values if values.ndim == 3 else values[..., None]
    return _to_levels(values, size, fit, gray, range)


def _to_levels(
    values: np.ndarray, size: tuple[int, int] | None, fit: Fit, gray: bool, range: tuple[float, float]
) -> np.ndarray:
    """Return the values of a file, float32 (h w c), as uint16 of the given size: the range's ends are 0 and 65535."""
    from PIL import Image

    low, high = range
    least, most = float(values.min()), float(values.max())
    if not (low <= least and most <= high):
        raise DataError(f"its values span {least:g} to {most:g}, out of range=({low:g}, {high:g})")
    shares = (values - low) / (high - low)
    channels = [np.asarray(_resize(Image.fromarray(each), size, fit)) for each in np.moveaxis(shares, 2, 0)]
    levels = np.round(np.stack(channels, 2).clip(0, 1) * _DEEP).astype(np.uint16)
    return levels if gray or levels.shape[2] == 3 else levels.repeat(3, axis=2)


def _resize(image: Image.Image, size: tuple[int, int] | None, fit: Fit) -> Image.Image:
    from PIL import Image, ImageOps

    if size is None:
        return image
    width_height, bicubic = (size[1], size[0]), Image.Resampling.BICUBIC
    if fit == "stretch":
        return image.resize(width_height, bicubic)
    return (ImageOps.fit if fit == "crop" else ImageOps.pad)(image, width_height, bicubic)


def _to_8_bit(image: Image.Image, depths: Depths | None) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > _DEEP:
            raise DataError(
                f"its values span {deep.min()} to {deep.max()}, more than 16 bits: say with range= which are black and white"
            )
        if depths is not None:
            depths.gray, depths.peak = depths.gray + 1, max(depths.peak, int(deep.max()))
        return Image.fromarray(np.round(deep / 257).astype(np.uint8))
    if image.mode == "F":
        raise DataError("it holds floating-point values: say with range= which are black and white")
    return _flatten(image)


def _flatten(image: Image.Image) -> Image.Image:
    """Return the image on white, if it is transparent anywhere."""
    from PIL import Image

    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return image


def _content(file: str | Path | BinaryIO) -> bytes:
    if isinstance(file, str | Path):
        return Path(file).read_bytes()
    file.seek(0)
    return file.read()


def _decode_16_bit_colors(png: bytes) -> np.ndarray:
    """Return the colors of a PNG file of 16 bits, upright and on white, float32 (h w 3) from 0 to 65535.

    Raises:
        DataError: torchvision, which decodes it, is not installed.
    """
    try:
        from torchvision.io import ImageReadMode, decode_png
    except (ImportError, OSError, RuntimeError) as error:
        raise DataError(
            "it has 16-bit colors, of which Pillow decodes 8 bits: install torchvision, which decodes 16, or convert it to arrays"
        ) from error
    import torch

    data = torch.frombuffer(bytearray(png), dtype=torch.uint8)
    decoded = decode_png(data, ImageReadMode.RGB_ALPHA, apply_exif_orientation=True).float()
    color, opaque = decoded[:3], decoded[3:] / _DEEP
    return (color * opaque + _DEEP * (1 - opaque)).permute(1, 2, 0).numpy()


def _is_reduced(opened: Image.Image) -> bool:
    """Whether the file has 16-bit colors, which Pillow decodes to 8 bits; known before it is decoded."""
    if opened.mode.startswith("I") or opened.mode == "F":
        return False
    return any(
        ";16" in str(tile[3]) or (tile[0] == "ppm" and tile[3][1] > 255)
        for tile in getattr(opened, "tile", [])
    )
