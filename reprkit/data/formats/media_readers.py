"""Readers of images and audio in a table's columns, stored as bytes or as paths of files."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from torch import Tensor

from reprkit.data import sound
from reprkit.data.formats.image_files import read_image
from reprkit.data.formats.value_readers import ValueReader
from reprkit.data.regular_files import check_regular
from reprkit.data.signature import Field
from reprkit.errors import DataError
from reprkit.registry.constraints import Width

Size = Width | tuple[Width, Width] | tuple[Width, Width, Literal[1, 3]] | None


class ImageReader(ValueReader):
    """Reader of image files, given as bytes or a path: uint8 (h w c)."""

    def __init__(self, size: Size) -> None:
        self.shape = (
            (size, size, 3)
            if isinstance(size, int)
            else (*(size or ()), *((3,) if len(size or ()) == 2 else ()))
        )

    def field(self) -> Field:
        """Return an image field in [0, 1]."""
        return Field(kind="image", shape=self.shape, range=(0.0, 1.0))

    def validate(self, value: Any) -> Any:
        """Check that the value is present."""
        return _require_content(value)

    def __call__(self, value: Any) -> Tensor:
        """Decode the pixels."""
        with _open(value) as file:
            return torch.from_numpy(read_image(file, self.shape[:2], gray=self.shape[2] == 1).copy())


class AudioReader(ValueReader):
    """Reader of sound files, given as bytes or a path: (t 1), float32."""

    def __init__(self, rate: int) -> None:
        self.rate = rate

    def field(self) -> Field:
        """Return a sequence field of varying length."""
        return Field(kind="sequence", shape=(None, 1))

    def validate(self, value: Any) -> Any:
        """Check that the value is present."""
        return _require_content(value)

    def __call__(self, value: Any) -> Tensor:
        """Decode the samples."""
        with _open(value) as file:
            samples = sound.read(file, self.rate, limit=False)[:, None]
        if not bool(samples.isfinite().all()):
            raise DataError("it holds values that are not finite")
        return samples


def _require_content(value: Any) -> Any:
    if not isinstance(value, Mapping) or (value.get("bytes") is None and not value.get("path")):
        raise DataError("is missing")
    return value


def _open(value: Mapping[str, Any]) -> BinaryIO:
    if value.get("bytes") is not None:
        return BytesIO(value["bytes"])
    import fsspec

    # A local path, or one in an archive of the hub.
    check_regular(Path(value["path"]))
    opened: BinaryIO = fsspec.open(value["path"], "rb").open()
    return opened
