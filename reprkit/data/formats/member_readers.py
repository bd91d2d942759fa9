"""Readers of the files of a record in a tar file: from bytes to the value of a field."""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from reprkit.data import sound
from reprkit.data.formats import image_files
from reprkit.data.formats.media_readers import AudioReader, ImageReader, Size
from reprkit.data.formats.value_readers import ValueReader, make_reader
from reprkit.data.signature import Field
from reprkit.errors import DataError

NUMBERS = ("cls", "cls2", "class", "count", "index", "inx", "id")
TEXTS = ("txt", "text", "transcript")
_JSON = ("json", "jsn")


class Member:
    """Where a field is in a record: the suffixes of its file, and a key where the file is JSON.

    Args:
        source: "jpg", alternatives "jpg;jpeg;png", or a value of JSON, "json.caption".

    Attributes:
        suffixes: of its file, in lower case without the first dot.
        key: of the value in a JSON file.
        kind: what its files hold: "image", "audio", "number", "text", "json" or "array".

    Raises:
        DataError: a suffix that is not known, suffixes of several kinds, or JSON without a key.
    """

    def __init__(self, source: str) -> None:
        self.source, self.key = source, None
        parts = [part.strip().lower().removeprefix(".") for part in source.split(";")]
        head, dot, key = source.strip().removeprefix(".").partition(".")
        if len(parts) == 1 and dot and head.lower() in _JSON:
            parts, self.key = [head.lower()], key
        self.suffixes = tuple(parts)
        self.kind = self._kind()

    def _kind(self) -> str:
        kinds = {kind_of(suffix) for suffix in self.suffixes}
        if None in kinds or len(kinds) != 1:
            raise DataError(f"{self.source!r} names no files that can be read as one field\n  {_KNOWN}")
        kind = kinds.pop()
        assert kind is not None
        if kind == "json" and not self.key:
            raise DataError(f"{self.source!r}: say which value of the JSON file, for example 'json.caption'")
        return kind

    def parse(self, files: Mapping[str, memoryview]) -> Any:
        """Return the field's value, as a ``ValueReader`` takes it.

        Raises:
            DataError: the record lacks the file or the key.
            Exception: what parsers raise.
        """
        content = next((files[suffix] for suffix in self.suffixes if suffix in files), None)
        if content is None:
            raise DataError(f"it has no file .{' or .'.join(self.suffixes)}")
        kind = self.kind
        if kind in ("image", "audio"):
            return {"bytes": content, "path": None}
        if kind == "array":
            return read_array(content)
        if kind == "number":
            return int(bytes(content))
        if kind == "text":
            return bytes(content).decode("utf-8").removesuffix("\n")
        record = json.loads(bytes(content))
        if not isinstance(record, dict) or self.key not in record:
            raise DataError(f"its JSON file has no value {self.key!r}")
        return record[self.key]


_KNOWN = (
    "known: images (jpg, png, webp ...), sound (wav, flac, ogg ...), .cls and other whole numbers, .txt, .npy, and 'json.KEY'; "
    "alternatives are written 'jpg;png'"
)


def read_array(content: memoryview) -> np.ndarray:
    """Return the array of a .npy file, a view of its content.

    Raises:
        ValueError: it is no .npy file, is cut short, or holds objects.
    """
    # np.load parses the text of the header each time, which takes longer than reading 100 kB.
    wide = len(content) > 6 and content[6] > 1
    length = int.from_bytes(content[8 : 12 if wide else 10], "little")
    start = (12 if wide else 10) + length
    shape, fortran, dtype = _array_header(bytes(content[:start]))
    flat = np.frombuffer(content, dtype, count=math.prod(shape), offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")


@functools.lru_cache(maxsize=1024)
def _array_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    file = io.BytesIO(header)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    return shape, fortran, dtype


def kind_of(suffix: str) -> str | None:
    """Return what a file of this suffix holds; None if it is not known."""
    last = suffix.rpartition(".")[2]
    if last in NUMBERS:
        return "number"
    if last in TEXTS:
        return "text"
    if last in _JSON:
        return "json"
    if last == "npy":
        return "array"
    if f".{last}" in image_files.suffixes():
        return "image"
    return "audio" if f".{last}" in sound.SUFFIXES else None


def member_reader(
    name: str,
    member: Member,
    values: Sequence[Any],
    *,
    size: Size,
    rate: int,
    classes: list[Any] | None,
    vocab: int | None,
    field: Field | None,
) -> ValueReader:
    """Create the reader of a field from its first values.

    Args:
        name: of the field.
        member: where its values are.
        values: of the first records.
        size: (h, w) of images.
        rate: of sound, in Hz.
        classes: values of a label.
        vocab: number of symbols, for arrays and lists of whole numbers.
        field: the field, if the shards state it.

    Raises:
        DataError: something must be declared, or the values fit no field.
    """
    kind = member.kind
    if kind == "image":
        if size is None:
            raise DataError(f"field {name!r} holds images: give size=(h, w), to which all are resized")
        return PixelReader(size)
    if kind == "audio":
        return AudioReader(rate)
    if kind == "array":
        return ArrayReader(field or _array_field(name, values, vocab))
    if kind == "number" or name == "label":
        return make_reader(name, list(values), kind="label", classes=classes)
    return make_reader(name, list(values), classes=classes, vocab=vocab)


class PixelReader(ImageReader):
    """Reader of image files as values in [0, 1]: float32 (h w c)."""

    def __call__(self, value: Any) -> Tensor:
        """Decode the pixels."""
        return super().__call__(value).float().div_(255)


class ArrayReader(ValueReader):
    """Reader of NumPy arrays: one example of a field, without a batch axis.  uint8 images are divided by 255."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._convert: Callable[[Tensor], Tensor] = Tensor.long if field.discrete else Tensor.float

    def field(self) -> Field:
        """Return the field."""
        return self._field

    def validate(self, value: Any) -> Any:
        """Check that the array has the field's shape, and symbols of its vocabulary or finite numbers."""
        shape = self._field.shape
        fits = value.ndim == len(shape) and all(
            b in (None, a) for a, b in zip(value.shape, shape, strict=True)
        )
        if not fits or value.size == 0:
            raise DataError(f"its array has the shape {value.shape}, not {shape}")
        if value.dtype.kind not in ("biu" if self._field.discrete else "biuf"):
            raise DataError(f"its array holds {value.dtype} values")
        if not self._field.discrete and not np.isfinite(value).all():
            raise DataError("its array has values that are not finite")
        if self._field.discrete and not 0 <= value.min() <= value.max() < (self._field.vocab or 0):
            raise DataError(
                f"its array holds {value.min()} to {value.max()}, and there are {self._field.vocab} symbols"
            )
        return value

    def size(self, value: Any) -> int:
        """Return the number of steps."""
        return len(value)

    def __call__(self, value: Any) -> Tensor:
        """Convert the array."""
        array = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
        made = self._convert(torch.from_numpy(array))
        bytes_of_image = value.dtype == np.uint8 and self._field.kind == "image"
        return made / 255 if bytes_of_image else made


def _array_field(name: str, values: Sequence[np.ndarray], vocab: int | None) -> Field:
    """Infer the field of arrays from the first ones."""
    first = values[0]
    whole = first.dtype.kind in "iu" and not (first.dtype == np.uint8 and first.ndim == 3)
    if whole and vocab is None:
        raise DataError(
            f"field {name!r} holds arrays of whole numbers ({first.dtype}, shape {first.shape}): a stream cannot know how many "
            f"symbols there are\n  give vocabs={{{name!r}: ...}}, or store numbers as float32"
        )
    if whole and first.ndim <= 2:
        kinds: tuple[Literal["label", "tokens", "map"], ...] = ("label", "tokens", "map")
        shape = (() if first.ndim == 0 else (None,)) if first.ndim < 2 else first.shape
        return Field(kind=kinds[first.ndim], shape=shape, vocab=vocab)
    if first.dtype.kind == "f" and first.ndim == 1:
        return Field(kind="vector", shape=first.shape)
    if first.dtype.kind == "f" and first.ndim == 2:
        return Field(kind="sequence", shape=(None, first.shape[1]))
    if first.ndim == 3 and first.dtype == np.uint8:
        return Field(kind="image", shape=first.shape, range=(0.0, 1.0))
    if first.ndim == 3 and first.dtype.kind == "f":
        return Field(kind="image", shape=first.shape)
    raise DataError(f"field {name!r} holds {first.dtype} arrays of shape {first.shape}, which fit no field")
