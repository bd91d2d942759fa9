"""Pictures and sounds that stand in a table, as bytes or as paths of files."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, BinaryIO, Literal

import torch
from torch import Tensor

from reprkit.data import sound
from reprkit.data.formats.image_files import read_image
from reprkit.data.formats.value_readers import ValueReader
from reprkit.data.signature import Field
from reprkit.errors import DataError
from reprkit.registry.constraints import Width

Size = Width | tuple[Width, Width] | tuple[Width, Width, Literal[1, 3]] | None


class ImageReader(ValueReader):
    """A picture file, as bytes or a path: uint8 (h w c)."""

    def __init__(self, size: Size) -> None:
        given = (
            (size, size, 3)
            if isinstance(size, int)
            else (*(size or ()), *((3,) if len(size or ()) == 2 else ()))
        )
        self.shape = given

    def field(self) -> Field:
        """An image in [0, 1]."""
        return Field(kind="image", shape=self.shape, range=(0.0, 1.0))

    def validate(self, value: Any) -> Any:
        """That there is one."""
        return _present(value)

    def __call__(self, value: Any) -> Tensor:
        """The pixels."""
        with _opened(value) as file:
            return torch.from_numpy(read_image(file, self.shape[:2], gray=self.shape[2] == 1).copy())


class AudioReader(ValueReader):
    """A sound file, as bytes or a path: (t 1), float32."""

    def __init__(self, rate: int) -> None:
        self.rate = rate

    def field(self) -> Field:
        """A sequence of varying length."""
        return Field(kind="sequence", shape=(None, 1))

    def validate(self, value: Any) -> Any:
        """That there is one."""
        return _present(value)

    def __call__(self, value: Any) -> Tensor:
        """The samples."""
        with _opened(value) as file:
            made = sound.read(file, self.rate, limit=False)[:, None]
        if not bool(made.isfinite().all()):
            raise DataError("it holds values that are not finite")
        return made


def _present(value: Any) -> Any:
    if not isinstance(value, Mapping) or (value.get("bytes") is None and not value.get("path")):
        raise DataError("is missing")
    return value


def _opened(value: Mapping[str, Any]) -> BinaryIO:
    if value.get("bytes") is not None:
        return BytesIO(value["bytes"])
    import fsspec

    opened: BinaryIO = fsspec.open(value["path"], "rb").open()  # a path here, or one of a hub's archive
    return opened
