"""The header of a code's string of bytes: version, checksum, fingerprint, and the layout of each factor's code."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from reprkit.data.padding import pad_to_length
from reprkit.errors import CompressionError, DataError
from reprkit.models.coding_prior import CodingPrior
from reprkit.types import Code
from reprkit.utils.varints import ByteReader, encode_varint

if TYPE_CHECKING:
    from reprkit.interfaces import Latent
    from reprkit.models.model import Model

VERSION = 1  # of the format; increased when older versions of reprkit cannot read the new one
PICTURE_VERSION = 2  # of the strings of pictures, see reprkit.models.pictures
_START, _BODY = 5, 9  # where the checksum's range and the first factor begin
_MASK, _PREFIX, _GRID, _POSITIONS, _LENGTH, _PRIOR, _PARENTS, _SLOTS = (1 << bit for bit in range(8))
# Bounds of what a string may claim; a checksum is no proof, since anyone can compute it.
_VALUES, _VALUES_PER_BYTE, _MOST_VALUES = 2**22, 2**12, 2**27  # of the code's tensors
_PRIOR_TOKENS, _PRIOR_TOKENS_PER_BYTE = 2**12, 2**6
_MAX_AXES = 4
_LENGTH_PER_TOKEN = 2**16
_INT32 = 2**31


@dataclass(frozen=True)
class TokenLimit:
    """How many tokens the code of a string may have.

    Attributes:
        own: number of tokens of the model's own codes; None where it varies.
        values: values that a code needs for each token.
        prior: whether symbols are coded under a prior, which takes much longer.
    """

    own: int | None
    values: int
    prior: bool

    def tokens(self, size: int) -> int:
        """Return the largest number of tokens of a string of ``size`` bytes."""
        most = min(_VALUES + _VALUES_PER_BYTE * size, _MOST_VALUES) // self.values
        if self.prior:
            most = min(most, _PRIOR_TOKENS + _PRIOR_TOKENS_PER_BYTE * size)
        return max(self.own or 0, most)

    def check_batch(self, examples: int, tokens: int) -> None:
        """Check the size of a padded batch.

        Raises:
            DataError: it is too large for one batch.
        """
        if tokens > (self.own or 0) and examples * tokens * self.values > _MOST_VALUES:
            raise DataError(
                f"{examples} codes of up to {tokens:,} tokens are too large for one batch: decompress fewer at a time"
            )


def close_string(body: bytes | bytearray, version: int = VERSION) -> bytes:
    """Return the string of a body that begins with the model's fingerprint."""
    return bytes([version]) + zlib.crc32(body).to_bytes(4, "little") + bytes(body)


def is_picture(string: bytes) -> bool:
    """Whether a string is of ``compress_picture``."""
    return string[:1] == bytes([PICTURE_VERSION])


@dataclass(frozen=True)
class CodeLayout:
    """The layout of one example's code; see ``Code``."""

    tokens: int
    valid: Tensor | None
    grid: tuple[int, ...] | None
    positions: tuple[int, ...] | None
    length: int | None
    parents: tuple[int, ...] | None = None
    slots: int | None = None  # where not all are written


def layout_to_bytes(code: Code, row: int, prior: CodingPrior | None, slots: int | None = None) -> bytes:
    """Return the layout of one example's code, and the fingerprint of its prior.

    Args:
        code: of a batch.
        row: of the example.
        prior: under which its symbols are written.
        slots: of the latent; where the code has fewer, their number is written.
    """
    tokens = code.z.shape[1]
    flags, fields = 0, b""
    if code.mask is not None:
        valid = code.mask[row].cpu()
        count = int(valid.sum())
        flags |= _MASK
        if bool(valid[:count].all()):
            flags |= _PREFIX
            fields += encode_varint(count)
        else:
            bits = sum(1 << place for place in valid.nonzero().flatten().tolist())
            fields += bits.to_bytes(-(-tokens // 8), "little")
    if code.grid is not None:
        flags |= _GRID
        fields += encode_varint(len(code.grid)) + b"".join(map(encode_varint, code.grid))
    if code.positions is not None:
        flags |= _POSITIONS
        fields += b"".join(map(encode_varint, code.positions[row].tolist()))
    if code.length is not None:
        flags |= _LENGTH
        fields += encode_varint(code.length)
    if code.parents is not None:
        flags |= _PARENTS  # distances are small; 0 stands for no parent
        up = code.parents[row].cpu() - torch.arange(tokens)
        fields += b"".join(encode_varint(max(0, distance)) for distance in up.tolist())
    if prior is not None:
        flags |= _PRIOR
        fields += prior.fingerprint
    if slots is not None and code.indices is not None and code.indices.shape[-1] < slots:
        flags |= _SLOTS
        fields += encode_varint(code.indices.shape[-1])
    return bytes([flags]) + encode_varint(tokens) + fields


def writer_fingerprint(string: bytes) -> bytes:
    """Return the fingerprint of the model that wrote a string; nothing is checked."""
    return string[_START:_BODY]


def open_string(string: bytes, number: int, model_fingerprint: bytes, version: int = VERSION) -> ByteReader:
    """Check version, checksum and fingerprint; return the reader of the rest, from the first factor on.

    Raises:
        CompressionError: the string is damaged, or of another model or version of the format.
    """
    where = f"string {number}"
    if len(string) < _BODY:
        raise CompressionError(f"{where} is damaged: it has {len(string)} bytes, fewer than its header")
    if {string[0], version} == {VERSION, PICTURE_VERSION}:
        raise CompressionError(
            f"{where} is of a picture: read it by reprkit.models.pictures.decompress_picture"
            if version == VERSION
            else f"{where} is of an example that is no picture file: read it by model.decompress"
        )
    if string[0] != version:
        raise CompressionError(
            f"{where} is damaged or of another version of reprkit: its format is {string[0]}, and this reprkit reads {version}"
        )
    if zlib.crc32(string[_START:]) != int.from_bytes(string[1:_START], "little"):
        raise CompressionError(f"{where} is damaged: its checksum does not match its content")
    if string[_START:_BODY] != model_fingerprint:
        raise CompressionError(
            f"{where} was written with another model, or with this one before its weights or tables changed: "
            "read it with the model that wrote it (model.save keeps that one)"
        )
    return ByteReader(string, where, _BODY)


def read_layout(reader: ByteReader, factor: str, prior: CodingPrior | None, limit: TokenLimit) -> CodeLayout:
    """Invert ``layout_to_bytes``.

    Raises:
        CompressionError: the string was written with another prior, without one, is damaged, or claims more than ``limit``.
    """
    flags = reader.take(1)[0]
    tokens = reader.varint()
    if tokens > limit.tokens(reader.size):
        reader.refuse(f"it claims {tokens:,} tokens in {reader.size:,} bytes")
    valid: Tensor | None = None
    grid: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    if flags & _PREFIX:
        valid = torch.arange(tokens) < reader.varint()
    elif flags & _MASK:
        bits = int.from_bytes(reader.take(-(-tokens // 8)), "little")
        valid = torch.tensor([bits >> place & 1 for place in range(tokens)], dtype=torch.bool)
    if flags & _GRID:
        axes = reader.varint()
        grid = tuple(reader.varint() for _ in range(min(axes, _MAX_AXES)))
        if axes > _MAX_AXES or (grid and math.prod(grid) != tokens):
            reader.refuse(f"it claims {tokens:,} tokens on another grid")
    if flags & _POSITIONS:
        positions = tuple(reader.varint() for _ in range(tokens))
        if max(positions, default=0) >= _INT32:
            reader.refuse("a position in it has more than 31 bits")
    length = reader.varint() if flags & _LENGTH else None
    if length is not None and length > min(_LENGTH_PER_TOKEN * (tokens + 1), _INT32):
        reader.refuse(f"it claims {length:,} steps for {tokens:,} tokens")
    parents = None
    if flags & _PARENTS:
        distances = [reader.varint() for _ in range(tokens)]
        parents = tuple(place + up if up else -1 for place, up in enumerate(distances))
        if max(parents, default=0) >= tokens:
            reader.refuse("a parent in it stands after the last token")
    if bool(flags & _PRIOR) != (prior is not None):
        given, needed = ("a", "none") if prior is not None else ("no", "one")
        raise CompressionError(
            f"priors= has {given} prior of factor {factor}, and the strings were written with {needed}: "
            "give the priors that compress was given"
        )
    if prior is not None and reader.take(4) != prior.fingerprint:
        raise CompressionError(f"the strings were written with another prior of factor {factor}")
    slots = reader.varint() if flags & _SLOTS else None
    return CodeLayout(tokens, valid, grid, positions, length, parents, slots)


def join_layouts(
    layouts: Sequence[CodeLayout], name: str, latent: Latent, model: Model, limit: TokenLimit
) -> Code:
    """Return a code of zeros with the layout of the batch; shorter examples are padded.

    It has indices only where the strings hold fewer slots than the latent has.
    """
    tokens = max(layout.tokens for layout in layouts)
    limit.check_batch(len(layouts), tokens)
    device, masked = (
        model.device,
        any(layout.valid is not None or layout.tokens < tokens for layout in layouts),
    )
    lengths = {layout.length for layout in layouts}
    mask = None
    if masked:
        rows = [
            torch.ones(each.tokens, dtype=torch.bool) if each.valid is None else each.valid
            for each in layouts
        ]
        mask = torch.stack([pad_to_length(row.unsqueeze(0), tokens)[0] for row in rows]).to(device)
    positions = None
    if layouts[0].positions is not None:
        rows = [torch.tensor(each.positions or (), dtype=torch.int64) for each in layouts]
        positions = torch.stack([pad_to_length(row.unsqueeze(0), tokens)[0] for row in rows]).to(device)
    parents = None
    if layouts[0].parents is not None:
        trees = [torch.tensor(each.parents or (), dtype=torch.int64) for each in layouts]
        parents = nn.utils.rnn.pad_sequence(trees, batch_first=True, padding_value=-1).to(device)
    slots = _join_slots(layouts, name, len(latent.vocab or ()))
    indices = (
        None if slots is None else torch.zeros(len(layouts), tokens, slots, dtype=torch.int64, device=device)
    )
    return Code(
        z=torch.zeros(
            len(layouts), tokens, latent.out_dim, dtype=model.factors[name].code_dtype, device=device
        ),
        indices=indices,
        mask=mask,
        grid=_join_grids(layouts, name),
        positions=positions,
        parents=parents,
        length=None if None in lengths else max(length for length in lengths if length is not None),
    )


def _join_slots(layouts: Sequence[CodeLayout], name: str, most: int) -> int | None:
    """Return the number of slots of all examples; None for all that the latent has."""
    numbers = {layout.slots for layout in layouts}
    if len(numbers) > 1:
        raise DataError(
            f"the codes of factor {name} have {', '.join(str(number or most) for number in numbers)} slots, which cannot be one "
            "batch: decompress them separately"
        )
    (slots,) = numbers
    if slots is not None and not 1 <= slots < most:
        raise CompressionError(f"a string is damaged: it claims {slots} slots, and factor {name} has {most}")
    return slots


def _join_grids(layouts: Sequence[CodeLayout], name: str) -> tuple[int, ...] | None:
    """Return the grid of a batch: the one of all examples, or that of the longest where they are steps in time."""
    grids = {layout.grid for layout in layouts}
    if len(grids) == 1:
        return grids.pop()
    if all(grid is not None and len(grid) == 1 for grid in grids):
        return max(grid for grid in grids if grid is not None)
    raise DataError(
        f"the codes of factor {name} have the grids {', '.join(map(str, sorted(grids, key=str)))}, which cannot be one batch: "
        "decompress them separately"
    )
