"""Images and labels from idx files, the format of MNIST, Fashion-MNIST, KMNIST and EMNIST."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from reprkit import Field, Signature
from reprkit.errors import DataError
from reprkit.interfaces import require
from reprkit_vision.data.official import Official

# The third byte of a file, and the type of its values, which are big-endian.
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Idx(Official):
    """Images and their labels from idx files, plain or compressed by gzip.

    Fields: ``x`` image (h w 1), or (h w c) where the file has four axes, float32 in [0, 1] (value / 255); ``label`` int64, if
    ``labels`` is given.  With ``test_images``, ``split`` returns these files as test and takes valid from the others; without, all
    parts are random.

    Args:
        images: file of uint8 values (n h w) or (n h w c).
        labels: file of integers (n,) from 0.
        test_images: file of images of the same size.
        test_labels: their labels.
        classes: names of the labels in the order of their numbers; () where they have none.

    Raises:
        PartArgumentError: labels of one part and not of the other, or test labels without images.
        DataError: a file that is missing, damaged or has another content, images of different sizes, numbers of labels and images
            that differ, or a label without a name.

    Source: LeCun, Cortes and Burges 1998, "The MNIST database of handwritten digits", section "File formats".
    """

    def __init__(
        self,
        images: str,
        labels: str | None = None,
        *,
        test_images: str | None = None,
        test_labels: str | None = None,
        classes: tuple[str, ...] = (),
    ) -> None:
        require(
            test_labels is None or test_images is not None, "dataset idx: test_labels= needs test_images="
        )
        require(
            test_images is None or (labels is None) == (test_labels is None),
            "dataset idx: give labels of both parts, or of neither",
        )
        require(
            labels is not None or not classes, "dataset idx: classes= are the names of labels: give labels="
        )
        parts = [(images, labels)]
        if test_images is not None:
            parts.append((test_images, test_labels))
        read = [_read_part(Path(each), None if own is None else Path(own)) for each, own in parts]
        if len({pixels.shape[1:] for pixels, _ in read}) > 1:
            sizes = " and ".join(str(pixels.shape[1:]) for pixels, _ in read)
            raise DataError(f"the images of the two files differ in size: {sizes}")
        pixels = np.concatenate([pixels for pixels, _ in read])
        values = {"x": torch.from_numpy(pixels)}
        fields = {"x": Field(kind="image", shape=pixels.shape[1:], range=(0.0, 1.0))}
        numbers = [own for _, own in read if own is not None]
        if numbers:
            values["label"] = torch.from_numpy(np.concatenate(numbers))
            largest = int(values["label"].max())
            if classes and largest >= len(classes):
                raise DataError(f"label {largest} has no name: {len(classes)} classes are given")
            count = len(classes) or largest + 1
            fields["label"] = Field(kind="label", shape=(), vocab=count, classes=tuple(classes))
        train_size = len(read[0][0]) if len(read) > 1 else None
        super().__init__(values, Signature(fields), train_size=train_size, name="idx")


def _read_part(images: Path, labels: Path | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Read images (n h w c) uint8 and labels (n,) int64.

    Raises:
        DataError: see ``Idx``.
    """
    pixels = read_idx(images)
    if pixels.ndim not in (3, 4) or pixels.dtype != np.uint8:
        raise DataError(
            f"{images} holds {pixels.dtype} values of shape {pixels.shape}; images are uint8 (n h w) or (n h w c)"
        )
    if not len(pixels):
        raise DataError(f"{images} holds no images")
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if labels is None:
        return pixels, None
    numbers = read_idx(labels)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise DataError(
            f"{labels} holds {numbers.dtype} values of shape {numbers.shape}; labels are integers (n,) from 0"
        )
    if (numbers < 0).any():
        raise DataError(f"{labels} holds the label {numbers.min()}; labels count from 0")
    if len(numbers) != len(pixels):
        raise DataError(f"{images} has {len(pixels)} images, and {labels} {len(numbers)} labels")
    return pixels, numbers.astype(np.int64)


def read_idx(path: Path) -> np.ndarray:
    """Read the array of an idx file, plain or compressed by gzip, in the machine's byte order.

    Raises:
        DataError: no such file, or one that is not an idx file, is damaged, or is shorter or longer than its header says.
    """
    path = path.expanduser()
    if not path.is_file():
        raise DataError(f"no file {str(path)!r} (looked in {Path.cwd()})")
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(4)
            kind = _TYPES.get(head[2]) if len(head) == 4 and head[:2] == b"\0\0" else None
            if kind is None or not 1 <= head[3] <= 4:
                raise DataError(
                    f"{path} is not an idx file: it begins with {head.hex(' ') or 'nothing'}, an idx file with "
                    "00 00, a type, and 1 to 4 axes"
                )
            sizes = file.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise DataError(f"{path} is cut off in its header")
            shape = struct.unpack(f">{head[3]}I", sizes)
            # In pieces: a header may claim more than memory holds.
            wanted, pieces, got = int(np.dtype(kind).itemsize * np.prod(shape, dtype=object)), [], 0
            while got <= wanted and (piece := file.read(min(1 << 24, wanted + 1 - got))):
                pieces.append(piece)
                got += len(piece)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if got != wanted:
        raise DataError(
            f"{path} {'is cut off' if got < wanted else 'is too long'}: its header says {shape}, {wanted:,} bytes"
            + (f", and it has {got:,}" if got < wanted else "")
        )
    content = bytearray(b"".join(pieces))  # writable, as torch wants it
    return np.frombuffer(content, kind).reshape(shape).astype(np.dtype(kind).newbyteorder("="), copy=False)
