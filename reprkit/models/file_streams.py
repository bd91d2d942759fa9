"""Files of any length as bytes: sound in pieces of a few seconds, text as one sequence; decoded to a file of the same length.

A file of streams holds, for each source file, its name, its length, and the string of ``model.compress`` of each piece::

    "rkstream1" │ CRC-32 of the rest 4 │ number of files │ for each: name, units, number of pieces
    │ for each piece: steps, length of its string, string

A unit is what the source file counts, such as a sample of sound; a step is one of the field, such as a frame.  Each piece is
encoded with steps before and after it, and decoded with the tokens beside it, so that pieces join without a seam where the
networks see no farther than that.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reprkit.data.raw_files import form_reader, list_files
from reprkit.errors import BuildError, CompressionError, PartArgumentError
from reprkit.models.code_file import encode_name, read_content, read_name, write_content
from reprkit.models.compression import check_writes
from reprkit.models.symbol_coding import codes_data
from reprkit.types import Code, Codes
from reprkit.utils.varints import ByteReader, encode_bytes, encode_varint

if TYPE_CHECKING:
    from reprkit.data.base import Dataset, Piece
    from reprkit.data.signature import Field
    from reprkit.models.model import Model

MAGIC = b"rkstream1"
STEPS, MARGIN = 640, 64  # of a piece, and of what is read before and after it


@dataclass
class Stream:
    """One compressed file.

    Attributes:
        name: of the source file.
        units: its length, such as its number of samples.
        steps: of each piece.
        strings: of each piece, as ``model.compress`` returns them.
    """

    name: str
    units: int = 0
    steps: list[int] = field(default_factory=list)
    strings: list[bytes] = field(default_factory=list)


def stream_files(model: Model, sources: Sequence[str]) -> tuple[list[Path], type[Dataset]] | None:
    """Return the files that are compressed as streams, and what reads them; None where the model does not write such files.

    Raises:
        DataError: a file that does not exist.
    """
    reader = _reader(model)
    files = [] if reader is None else list_files(sources, reader.raw_suffixes)
    return None if reader is None or not files else (files, reader)


def compress_file(model: Model, path: Path, *, slots: int | None = None) -> Stream:
    """Compress a file of any length; only a piece of a sound is in memory.

    Args:
        model: reads the file's field, and writes data that the field's data set writes to a file.
        path: the file.
        slots: as in ``model.compress``.

    Raises:
        BuildError: the model writes no such files, or its codes do not follow the steps of the data.
        PartArgumentError: a latent is not discrete.
        DataError: the file cannot be read.
    """
    reader, stream = _require_reader(model), Stream(path.name)
    whole = codes_data(model)  # any length at once
    if not whole:
        _check_latents(model)
    for piece in reader.read_pieces(path, _input(model), *((None, 0) if whole else (STEPS, MARGIN))):
        coded = {"x": piece.values.unsqueeze(0)} if whole else _encode_piece(model, piece)
        stream.strings += model.compress(coded, slots=slots)
        stream.steps.append(piece.steps)
        stream.units += piece.units
    return stream


def decompress_file(model: Model, stream: Stream, out: Path) -> None:
    """Write what a stream decodes to, in a format that the suffix of ``out`` names.

    Raises:
        CompressionError: it is damaged, or of another model.
        DataError: a suffix that is not known.
    """
    reader = _require_reader(model)
    reader.write_pieces(out, _decode_pieces(model, stream), _input(model), stream.units)


def _check_latents(model: Model) -> None:
    """Check that all latents are discrete, since the tokens of a piece are cut from those of its margins."""
    check_writes(model)
    for name, factor in model.factors.items():
        if factor.latent.vocab is None:
            raise PartArgumentError(
                f"latent {factor.latent.qualified or type(factor.latent).__name__} of factor {name} writes the bytes of an example "
                "as a whole, and files are compressed in pieces: use a discrete latent, such as residual-vq"
            )


@torch.no_grad()
def _encode_piece(model: Model, piece: Piece) -> Codes:
    (name,) = {factor.input for factor in model.factors.values()}
    codes = model.encode({name: piece.values.unsqueeze(0).to(model.device)}, any_length=True, in_range=False)
    total, found = len(piece.values), {}
    for factor, code in codes.items():
        assert code.indices is not None
        tokens = code.z.shape[1]
        each = -(-total // tokens)  # steps a token
        if tokens != -(-total // each) or piece.before % each or (STEPS % each and total > STEPS):
            raise BuildError(
                f"factor {factor} has {tokens} tokens for {total} steps: a file is compressed in pieces, for which a token "
                f"must stand for a number of steps that divides {MARGIN}"
            )
        own = slice(piece.before // each, piece.before // each + -(-piece.steps // each))
        indices = code.indices[:, own]
        found[factor] = Code(z=code.z[:, own], indices=indices, grid=(indices.shape[1],), length=piece.steps)
    return Codes(found)


@torch.no_grad()
def _decode_pieces(model: Model, stream: Stream) -> Iterator[Tensor]:
    """Yield the data of each piece (t c)."""
    if codes_data(model):
        for string in stream.strings:
            yield model.decompress([string])["x"][0]
        return
    codes = [model.decompress([string]) for string in stream.strings]
    ratio = _output_steps(model)
    each = {
        name: -(-stream.steps[0] // code.z.shape[1]) for name, code in (codes[0] if codes else {}).items()
    }
    for own, steps in zip(codes, stream.steps, strict=True):
        if not 0 < steps <= STEPS or any(own[name].z.shape[1] != -(-steps // each[name]) for name in each):
            raise CompressionError(f"{stream.name!r} is damaged: a piece claims {steps:,} steps")
    for index, own in enumerate(codes):
        before = codes[index - 1] if index else None
        after = codes[index + 1] if index + 1 < len(codes) else None
        joined, skipped, total = _join(before, own, after, stream.steps[index], each)
        decoded = model.decode(joined, length=total * ratio)
        values = model.to_batch(decoded)[model.output][0]
        yield values[skipped * ratio : (skipped + stream.steps[index]) * ratio]


def _join(
    before: Codes | None, own: Codes, after: Codes | None, steps: int, each: Mapping[str, int]
) -> tuple[Codes, int, int]:
    """Return the codes of a piece between those beside it, the steps before its own, and all steps.

    ``each``: the number of steps that a token of each factor stands for.
    """
    joined, skipped, total = {}, 0, steps
    for name, code in own.items():
        assert code.indices is not None
        margin = MARGIN // each[name]
        skipped = 0 if before is None else min(margin, before[name].z.shape[1]) * each[name]
        parts = [] if before is None else [_ends(before[name], slice(-margin, None))]
        parts += [(code.z, code.indices)]
        if after is not None:
            following = _ends(after[name], slice(0, margin))
            parts.append(following)
            total = steps + following[0].shape[1] * each[name]
        total += skipped
        z, indices = (torch.cat(each_part, 1) for each_part in zip(*parts, strict=True))
        joined[name] = Code(z=z, indices=indices, grid=(z.shape[1],), length=total)
    return Codes(joined), skipped, total


def _ends(code: Code, tokens: slice) -> tuple[Tensor, Tensor]:
    assert code.indices is not None
    return code.z[:, tokens], code.indices[:, tokens]


def _input(model: Model) -> Field:
    signature = model.signature
    assert signature is not None  # _reader
    names = {factor.input for factor in model.factors.values()} or {"x"}
    return signature[next(iter(names))]


def _output_steps(model: Model) -> int:
    """Return the number of steps of the output for each step of the input."""
    signature = model.signature
    assert signature is not None  # _reader
    given, made = _input(model).shape[0], signature[model.output].shape[0]
    return made // given if given and made else 1


def _reader(model: Model) -> type[Dataset] | None:
    """Return the data set that reads the model's input from files and writes its output to files."""
    signature = model.signature
    inputs = {factor.input for factor in model.factors.values()} or {"x"}
    if signature is None or len(inputs) != 1 or model.decoder is None or not inputs <= set(signature):
        return None
    read = _input(model)
    reader = form_reader(read)
    writes = reader is not None and reader.writes_files(read, signature[model.output])
    return reader if writes else None


def _require_reader(model: Model) -> type[Dataset]:
    reader = _reader(model)
    if reader is None:
        raise BuildError(
            "this model does not turn files into files: its input must be read from files (Field.form), and its output be what the "
            "same data set writes, such as a waveform"
        )
    return reader


# ------------------------------------------------------------------ the file


def write_streams(path: str | Path, streams: Sequence[Stream]) -> Path:
    """Write compressed files as one file, atomically.

    Raises:
        CompressionError: it cannot be written.
    """
    body = bytearray(encode_varint(len(streams)))
    for stream in streams:
        body += encode_name(stream.name) + encode_varint(stream.units) + encode_varint(len(stream.steps))
        for steps, string in zip(stream.steps, stream.strings, strict=True):
            body += encode_varint(steps) + encode_bytes(string)
    return write_content(path, MAGIC + zlib.crc32(body).to_bytes(4, "little") + bytes(body))


def is_stream_file(path: str | Path) -> bool:
    """Whether the file is one of ``write_streams``; False where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_streams(path: str | Path) -> list[Stream]:
    """Read a file of ``write_streams``.

    Raises:
        CompressionError: it cannot be read, is of another kind, or damaged.
    """
    content = read_content(path)
    start = len(MAGIC) + 4
    checksum = int.from_bytes(content[len(MAGIC) : start], "little")
    if not content.startswith(MAGIC) or zlib.crc32(content[start:]) != checksum:
        raise CompressionError(f"{path} is damaged, or no file of compressed streams")
    reader = ByteReader(content, str(path), start)
    streams = []
    for _ in range(reader.varint()):
        stream = Stream(read_name(reader), reader.varint())
        for _ in range(reader.varint()):
            stream.steps.append(reader.varint())
            stream.strings.append(reader.byte_string())
        streams.append(stream)
    reader.check_end()
    return streams
