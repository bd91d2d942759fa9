"""Pictures of any size as bytes: one string a picture, by tiles of the model's size or, where its parts allow, as a whole.

::

    version 2 │ CRC-32 4 │ fingerprint 4 │ height │ width │ for each tile, row by row: layout and payload of each factor

A picture is padded to a multiple of the model's cells by its last rows and columns, and cropped after decoding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.raw_input import read_picture
from reprkit.data.signature import Field
from reprkit.errors import BuildError, DataError
from reprkit.models.code_header import PICTURE_VERSION, close_string, open_string
from reprkit.models.compression import check_writes, first_slots, read_bodies, skip_body, write_bodies
from reprkit.models.exchange import values_to
from reprkit.models.fingerprints import fingerprint
from reprkit.models.grid import from_tokens
from reprkit.models.isolation import isolate
from reprkit.utils.varints import ByteReader, encode_varint

if TYPE_CHECKING:
    from reprkit.models.model import Model
    from reprkit.types import Codes

_LARGEST_TILE = 2048  # pixels a side of what networks of any size read at once, which bounds memory
_LARGEST_SIDE = 2**20  # pixels that a string may claim
_TILES_AT_ONCE = 64 * 64 * 16  # pixels: small tiles are encoded and decoded together


def compress_picture(model: Model, picture: Any, *, slots: int | None = None) -> bytes:
    """Encode a picture of any size as bytes, which ``decompress_picture`` reads; for many pictures see ``PictureCoder``.

    Where all encoders and decoders provide "any_size", the picture is coded as a whole (in tiles of 2,048 pixels, if it is
    larger), else in tiles of the size that the model learned.  The header takes about 21 bytes, and 8 for each further tile.

    Args:
        model: a model whose factors read one image field, and whose latents all write bytes.
        picture: a file, a picture of Pillow, an array or tensor of uint8 (h w c), or of real numbers in the field's range.  Files
            are read as the data set ``images`` does: gray or color as the model, transparent pixels white, 16 bits where its form
            says.
        slots: as in ``model.compress``.

    Raises:
        PartArgumentError: a latent is continuous and writes no bytes, or cannot be read from that many slots.
        BuildError: the model reads no images, or something beside them.
        DataError: the picture cannot be read, or does not have the model's channels and range.
    """
    return PictureCoder(model).compress(picture, slots=slots)


def decompress_picture(
    model: Model, string: bytes, *, output: str | None = None, number: int = 0
) -> np.ndarray:
    """Decode what ``compress_picture`` wrote: an array (h w c) of the picture's own size, in the field's range.

    Args:
        model: the model that wrote the string, or its saved copy.
        string: of ``compress_picture``.
        output: the output, where there are several.
        number: of the string among others, for messages.

    Raises:
        CompressionError: the string is damaged, is of no picture, or was written with another model or version of the format.
        BuildError: no decoder, no such output, or one that returns no image.
    """
    return PictureCoder(model).decompress(string, output=output, number=number)


def payload_size(model: Model, string: bytes) -> int:
    """Return the bytes of a string of ``compress_picture`` without its headers: those that the latents wrote.

    Raises:
        CompressionError: the string is damaged, is of no picture, or was written with another model or version of the format.
    """
    return PictureCoder(model).payload_size(string)


class PictureCoder:
    """Codes many pictures: what depends on the model alone is computed once, so the model must not change in between.

    Args:
        model: as in ``compress_picture``.

    Raises:
        PartArgumentError, BuildError: as ``compress_picture``.
    """

    def __init__(self, model: Model) -> None:
        check_writes(model)
        self._model, self._layout, self._start = model, _Layout.of(model), fingerprint(model)

    @torch.no_grad()
    def compress(self, picture: Any, *, slots: int | None = None) -> bytes:
        """See ``compress_picture``."""
        model, layout = self._model, self._layout
        with isolate(model, 0):
            pixels = _read(picture, layout.field)
            body = bytearray(self._start) + encode_varint(pixels.shape[0]) + encode_varint(pixels.shape[1])
            for boxes in layout.groups(*pixels.shape[:2]):
                batch = {layout.name: torch.stack([_cut(pixels, box) for box in boxes])}
                codes = first_slots(model, model.encode(batch, any_length=True), slots)
                for written in write_bodies(model, codes):
                    body += written
        return close_string(body, PICTURE_VERSION)

    @torch.no_grad()
    def decompress(self, string: bytes, *, output: str | None = None, number: int = 0) -> np.ndarray:
        """See ``decompress_picture``."""
        model, layout = self._model, self._layout
        model.require_decoded_data()
        target = model.get_output(output)
        if target.field.kind != "image":
            raise BuildError(
                f"output {target.name!r} is {target.field.kind} data, and pictures are decoded to images"
            )
        reader, height, width = self._open(string, number)
        with isolate(model, 0):
            tiles: list[tuple[_Box, Codes]] = []
            for box in layout.boxes(height, width):
                tiles.append((box, read_bodies(model, [reader])))
                if any(
                    code.grid not in (None, layout.grids[name], box.grid(layout.cell))
                    for name, code in tiles[-1][1].items()
                ):
                    reader.refuse(f"its tiles do not make up {height:,} x {width:,} pixels")
            reader.check_end()
            found = np.empty((height, width, int(target.field.shape[-1] or 0)), np.float32)
            for box, codes in tiles:
                decoded = model.decode(codes, output=output)
                size = (*box.padded, found.shape[-1])
                sized = replace(target.field, shape=size)
                if decoded.x.shape[1:].numel() != math.prod(size):
                    reader.refuse(f"its tiles do not make up {height:,} x {width:,} pixels")
                values = values_to(
                    from_tokens(decoded.x, decoded.grid or (1,), sized), sized, "numpy", "decompress"
                )
                found[box.rows, box.columns] = values[0, : box.height, : box.width]
        return found

    def payload_size(self, string: bytes) -> int:
        """See ``reprkit.models.pictures.payload_size``."""
        reader, height, width = self._open(string, 0)
        return sum(skip_body(self._model, reader) for _ in self._layout.boxes(height, width))

    def _open(self, string: bytes, number: int) -> tuple[ByteReader, int, int]:
        """Return the reader of the tiles, and the picture's height and width."""
        reader = open_string(string, number, self._start, PICTURE_VERSION)
        height, width = reader.varint(), reader.varint()
        if not (0 < height <= _LARGEST_SIDE and 0 < width <= _LARGEST_SIDE):
            reader.refuse(f"it claims {height:,} x {width:,} pixels")
        return reader, height, width


@dataclass(frozen=True)
class _Box:
    """A tile: its place in the picture, and the size to which it is padded."""

    top: int
    left: int
    height: int
    width: int
    padded: tuple[int, int]

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)

    def grid(self, cell: tuple[int, int]) -> tuple[int, int]:
        return self.padded[0] // cell[0], self.padded[1] // cell[1]


@dataclass(frozen=True)
class _Layout:
    """How a model codes pictures.

    Attributes:
        name: the field that its factors read.
        field: that field.
        cell: pixels (h, w) to a multiple of which a picture is padded.
        tile: pixels (h, w) of the largest tile.
        grids: grid of each factor's code of an image of the model's size.
    """

    name: str
    field: Field
    cell: tuple[int, int]
    tile: tuple[int, int]
    grids: dict[str, tuple[int, ...] | None]

    @classmethod
    def of(cls, model: Model) -> _Layout:
        inputs = {factor.input for factor in model.factors.values()}
        name = next(iter(inputs))
        field = None if model.signature is None else model.signature[name]
        if field is None or len(inputs) > 1 or field.kind != "image":
            read = "no data that it knows" if field is None else ", ".join(sorted(inputs))
            raise BuildError(
                f"pictures are coded by a model whose factors read one image field, and this one reads {read}"
            )
        size = (int(field.shape[0] or 0), int(field.shape[1] or 0))
        assert model.signature is not None
        with isolate(model, 0):
            example = model.signature.example()
            grids = {n: code.grid for n, code in model.encode(example).items()}
            own = {n: factor.encoder.grid(factor.view(example)) for n, factor in model.factors.items()}
        cells = {(size[0] // grid[0], size[1] // grid[1]) for grid in own.values() if len(grid) == 2}
        parts = [
            *(f.encoder for f in model.factors.values()),
            *(out.decoder for out in model.outputs.values()),
        ]
        whole = all("any_size" in part.provides for part in parts) and len(cells) == 1 and grids == own
        cell = cells.pop() if whole else size
        return cls(
            name,
            field,
            cell,
            (_LARGEST_TILE // cell[0] * cell[0], _LARGEST_TILE // cell[1] * cell[1]) if whole else size,
            grids,
        )

    def boxes(self, height: int, width: int) -> Iterator[_Box]:
        """Yield the tiles of a picture, row by row."""
        for top in range(0, height, self.tile[0]):
            for left in range(0, width, self.tile[1]):
                own = min(self.tile[0], height - top), min(self.tile[1], width - left)
                padded = -(-own[0] // self.cell[0]) * self.cell[0], -(-own[1] // self.cell[1]) * self.cell[1]
                yield _Box(top, left, *own, padded)

    def groups(self, height: int, width: int) -> Iterator[list[_Box]]:
        """Yield the tiles in groups of one padded size that are encoded together."""
        group: list[_Box] = []
        for box in self.boxes(height, width):
            most = max(1, _TILES_AT_ONCE // (box.padded[0] * box.padded[1]))
            if group and (len(group) >= most or group[0].padded != box.padded):
                yield group
                group = []
            group.append(box)
        yield group


def _read(picture: Any, field: Field) -> Tensor:
    """Return a picture (h w c) in the field's range.

    Raises:
        DataError: it is no picture, cannot be read, or has other channels.
    """
    from PIL import Image

    if isinstance(picture, str | Path | Image.Image):
        try:
            return read_picture(picture, field)
        except DataError as error:
            raise DataError(f"{_title(picture)}: {error}") from error
        except Exception as error:  # Pillow raises many kinds
            raise DataError(f"{_title(picture)} cannot be read as a picture: {error}") from error
    # A copy: what Pillow gives is not writable, and torch warns of such arrays.
    pixels = picture if isinstance(picture, Tensor) else torch.from_numpy(np.array(picture))
    if pixels.ndim != 3 or pixels.shape[-1] != field.shape[-1] or not pixels.numel():
        raise DataError(f"a picture is (h w {field.shape[-1]}) for this model, not {tuple(pixels.shape)}")
    low, high = field.range or (0.0, 255.0)
    return pixels.float() / 255 * (high - low) + low if pixels.dtype == torch.uint8 else pixels.float()


def _title(picture: Any) -> str:
    return str(picture) if isinstance(picture, str | Path) else "the picture"


def _cut(pixels: Tensor, box: _Box) -> Tensor:
    """Return a tile (h w c), padded by its last rows and columns."""
    rows = torch.arange(box.padded[0]).clamp(max=box.height - 1) + box.top
    columns = torch.arange(box.padded[1]).clamp(max=box.width - 1) + box.left
    return pixels[rows][:, columns]
