"""Codes as bytes: one string an example, with a header that refuses another model and damage; the tables of the symbols.

::

    version 1 │ CRC-32 4 │ fingerprint of the model 4 │ for each factor: layout of its code, length of its payload, payload

The CRC-32 covers all that follows it.  The payload is what ``Latent.write`` returns, or the symbols under a prior model.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from reprkit.data.padding import pad_to_length
from reprkit.errors import BuildError, CompressionError, DataError, PartArgumentError, nearest
from reprkit.models.coding_prior import CodingPrior
from reprkit.types import Batch, Code, Codes
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

VERSION = 1  # of the format; increased when older versions of reprkit cannot read the new one
_START, _BODY = 5, 9  # where the checksum's range and the first factor begin
_MASK, _PREFIX, _GRID, _POSITIONS, _LENGTH, _PRIOR = (1 << bit for bit in range(6))

Priors = Mapping[str, "Model | str"] | None


@torch.no_grad()
def compress(model: Model, batch: Batch | Codes, *, priors: Priors = None) -> list[bytes]:
    """Encode a batch and return its codes as bytes, one string an example, which ``decompress`` reads.

    Symbols cost what the tables of ``Latent.frequencies`` say, see ``fit_frequencies``; without tables each costs log2 of its
    vocabulary.  Under a prior a symbol costs its -log2 p given the symbols before.  The header takes about 17 bytes a string.

    Args:
        model: a model whose latents are all discrete.
        batch: what the data set yields, or codes.
        priors: factor -> a causal model of its codes, or its folder.  Its probabilities are floats, so such a string can be read
            on the machine that wrote it only, with the same versions and number of threads.

    Raises:
        PartArgumentError: a latent is continuous.
        BuildError: a prior of an unknown factor, of other codes, or that is not a causal decoder without an encoder.
        DataError: the batch does not have the shapes and types of the signature.
    """
    _check_discrete(model)
    coding = _load_priors(model, priors)
    with eval_mode(model):
        codes = batch if isinstance(batch, Codes) else model.encode(batch)
        if set(codes) != set(model.factors):
            raise BuildError(
                f"the codes have the factors {', '.join(codes) or 'none'}, and the model {', '.join(model.factors)}"
            )
        start = fingerprint(model)
        bodies: list[bytearray] = [bytearray(start) for _ in range(len(next(iter(codes.values())).z))]
        for name, factor in model.factors.items():
            code, prior = codes[name], coding.get(name)
            payloads = factor.latent.write(code) if prior is None else prior.write(code)
            for row, (body, payload) in enumerate(zip(bodies, payloads, strict=True)):
                body += _layout_to_bytes(code, row, prior)
                body += _varint(len(payload)) + payload
    return [bytes([VERSION]) + zlib.crc32(body).to_bytes(4, "little") + bytes(body) for body in bodies]


@torch.no_grad()
def decompress(model: Model, strings: Sequence[bytes], *, priors: Priors = None) -> Codes:
    """Return the codes that ``compress`` wrote, as one batch; ``model.decode`` of them is that of the codes written.

    Args:
        model: the model that wrote the strings, or its saved copy.
        strings: one for each example.
        priors: those given to ``compress``.

    Raises:
        CompressionError: a string is damaged, or was written with another model, prior or version of the format.
        DataError: no strings, or examples whose layouts cannot be one batch.
    """
    if isinstance(strings, bytes) or not strings or not all(isinstance(s, bytes) for s in strings):
        raise DataError("decompress takes a list of the strings (bytes) that compress returned, at least one")
    _check_discrete(model)
    coding, start = _load_priors(model, priors), fingerprint(model)
    readers = [_open(string, number, start) for number, string in enumerate(strings)]
    codes = {}
    with eval_mode(model):
        for name, factor in model.factors.items():
            prior = coding.get(name)
            layouts, payloads = [], []
            for reader in readers:
                layouts.append(_read_layout(reader, name, prior))
                payloads.append(reader.take(reader.varint()))
            like = _join_layouts(layouts, name, factor.latent.out_dim, model)
            codes[name] = (factor.latent if prior is None else prior).read(payloads, like)
        for reader in readers:
            reader.check_end()
    return Codes(codes)


@torch.no_grad()
def fit_frequencies(model: Model, data: Dataset | str, *, batch: int = 256) -> dict[str, float]:
    """Count the symbols of all codes of a data set, and set the tables of every discrete latent from them.

    Fit on the training data, after training: codes are counted as evaluation and ``compress`` compute them, whereas a training
    step may see corrupted inputs, random draws and codes that still change.  The tables belong to the model and are saved with
    it; strings written before are then of another model.

    Args:
        model: a model with a discrete latent.
        data: the data set to count on, or a reference to one.
        batch: number of examples that are encoded at a time.

    Returns:
        The mean size of a code of this data, in bits an example, by factor.

    Raises:
        PartArgumentError: no latent is discrete.
    """
    from reprkit.data.resolve import dataset

    discrete = {name: factor for name, factor in model.factors.items() if factor.latent.vocab is not None}
    if not discrete:
        raise PartArgumentError(
            "fit_frequencies: the model has no discrete latent, so there are no symbols to count"
        )
    counts = {
        name: torch.zeros(len(factor.latent.vocab or ()), max(factor.latent.vocab or ()), dtype=torch.int64)
        for name, factor in discrete.items()
    }
    examples = 0
    with eval_mode(model):
        for rows in dataset(data).batches(batch):
            codes = model.encode(rows, factors=tuple(discrete))
            examples += len(next(iter(codes.values())).z)
            for name, code in codes.items():
                _count_symbols(code, counts[name])
    bits = {}
    for name, factor in discrete.items():
        factor.latent.set_frequencies(counts[name])
        bits[name] = (
            _table_bits(factor.latent.frequencies(), counts[name], factor.latent.vocab or ()) / examples
        )
    return bits


def fingerprint(model: Model) -> bytes:
    """Return 4 bytes that depend on all that turns symbols into an output: latents, their tables, adapters and decoder.

    Encoders and objectives are left out: they may change without changing what a string stands for.
    """
    digest = hashlib.blake2b(digest_size=4)
    for name, factor in model.factors.items():
        tables = factor.latent.frequencies()
        digest.update(repr((name, type(factor.latent).__qualname__, factor.latent.vocab)).encode())
        _hash_tensors(digest, {} if tables is None else {"frequencies": tables})
    encoding = ("objective.", *(f"factors.{name}.{part}." for name in model.factors for part in _ENCODING))
    _hash_tensors(digest, {k: v for k, v in model.state_dict().items() if not k.startswith(encoding)})
    return digest.digest()


_ENCODING = ("encoder", "adapter", "conditioner", "usage")  # what a factor has before its latent


def module_fingerprint(module: nn.Module) -> bytes:
    """Return 4 bytes that depend on all weights and buffers of a module."""
    digest = hashlib.blake2b(digest_size=4)
    _hash_tensors(digest, module.state_dict())
    return digest.digest()


def _hash_tensors(digest: hashlib.blake2b, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _check_discrete(model: Model) -> None:
    if not model.factors:
        raise BuildError(
            "this model has no encoder, so it has no codes to compress: build it with encoder= or factors="
        )
    for name, factor in model.factors.items():
        if factor.latent.vocab is None:
            title = factor.latent.qualified or type(factor.latent).__name__
            raise PartArgumentError(
                f"latent {title} of factor {name} is continuous, and only discrete codes can be compressed: use a discrete latent, "
                "such as vq, residual-vq, one-hot or binary"
            )


def _load_priors(model: Model, priors: Priors) -> dict[str, CodingPrior]:
    coding = {}
    for name, prior in (priors or {}).items():
        if name not in model.factors:
            raise BuildError(
                f"priors: no factor named {name!r}; there are: {', '.join(model.factors)}.{nearest(name, model.factors)}"
            )
        coding[name] = CodingPrior(model, name, prior)
    return coding


def _count_symbols(code: Code, counts: Tensor) -> None:
    """Add the symbols of the valid tokens to counts (q v)."""
    assert code.indices is not None
    symbols = code.indices.flatten(0, 1) if code.mask is None else code.indices[code.mask]
    for slot, column in enumerate(symbols.cpu().unbind(1)):
        counts[slot] += column.bincount(minlength=counts.shape[1])


def _table_bits(tables: Tensor | None, counts: Tensor, vocab: Sequence[int]) -> float:
    """Return the bits of all counted symbols under the tables."""
    if tables is None:
        return float((counts.sum(1).double() * torch.tensor(vocab).log2()).sum())
    return float((counts * (16 - tables.clamp(min=1).cpu().double().log2())).sum())


# ------------------------------------------------------------------ the header


@dataclass(frozen=True)
class _Layout:
    """The layout of one example's code; see ``Code``."""

    tokens: int
    valid: Tensor | None
    grid: tuple[int, ...] | None
    positions: tuple[int, ...] | None
    length: int | None


def _varint(number: int) -> bytes:
    """Encode a whole number from 0 in bytes of 7 bits, the lowest first (LEB128)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _layout_to_bytes(code: Code, row: int, prior: CodingPrior | None) -> bytes:
    tokens = code.z.shape[1]
    flags, fields = 0, b""
    if code.mask is not None:
        valid = code.mask[row].cpu()
        count = int(valid.sum())
        flags |= _MASK
        if bool(valid[:count].all()):
            flags |= _PREFIX
            fields += _varint(count)
        else:
            bits = sum(1 << place for place in valid.nonzero().flatten().tolist())
            fields += bits.to_bytes(-(-tokens // 8), "little")
    if code.grid is not None:
        flags |= _GRID
        fields += _varint(len(code.grid)) + b"".join(map(_varint, code.grid))
    if code.positions is not None:
        flags |= _POSITIONS
        fields += b"".join(map(_varint, code.positions[row].tolist()))
    if code.length is not None:
        flags |= _LENGTH
        fields += _varint(code.length)
    if prior is not None:
        flags |= _PRIOR
        fields += module_fingerprint(prior.model)
    return bytes([flags]) + _varint(tokens) + fields


class _Reader:
    """Reads a string from its first factor on; every error names the string."""

    def __init__(self, string: bytes, where: str) -> None:
        self._string, self._where, self._position = string, where, _BODY

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        end = self._position + count
        if end > len(self._string):
            raise CompressionError(f"{self._where} is damaged: it ends before its last symbol")
        taken, self._position = self._string[self._position : end], end
        return taken

    def varint(self) -> int:
        """Return the next whole number."""
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def check_end(self) -> None:
        """Check that nothing is left."""
        if self._position != len(self._string):
            raise CompressionError(f"{self._where} is damaged: it goes on after its last symbol")


def _open(string: bytes, number: int, start: bytes) -> _Reader:
    """Check version, checksum and fingerprint."""
    where = f"string {number}"
    if len(string) < _BODY:
        raise CompressionError(f"{where} is damaged: it has {len(string)} bytes, fewer than its header")
    if string[0] != VERSION:
        raise CompressionError(
            f"{where} is damaged or of another version of reprkit: its format is {string[0]}, and this reprkit reads {VERSION}"
        )
    if zlib.crc32(string[_START:]) != int.from_bytes(string[1:_START], "little"):
        raise CompressionError(f"{where} is damaged: its checksum does not match its content")
    if string[_START:_BODY] != start:
        raise CompressionError(
            f"{where} was written with another model, or with this one before its weights or tables changed: "
            "read it with the model that wrote it (model.save keeps that one)"
        )
    return _Reader(string, where)


def _read_layout(reader: _Reader, factor: str, prior: CodingPrior | None) -> _Layout:
    flags = reader.take(1)[0]
    tokens = reader.varint()
    valid: Tensor | None = None
    grid: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    if flags & _PREFIX:
        valid = torch.arange(tokens) < reader.varint()
    elif flags & _MASK:
        bits = int.from_bytes(reader.take(-(-tokens // 8)), "little")
        valid = torch.tensor([bits >> place & 1 for place in range(tokens)], dtype=torch.bool)
    if flags & _GRID:
        grid = tuple(reader.varint() for _ in range(reader.varint()))
    if flags & _POSITIONS:
        positions = tuple(reader.varint() for _ in range(tokens))
    length = reader.varint() if flags & _LENGTH else None
    if bool(flags & _PRIOR) != (prior is not None):
        given, needed = ("a", "none") if prior is not None else ("no", "one")
        raise CompressionError(
            f"priors= has {given} prior of factor {factor}, and the strings were written with {needed}: "
            "give the priors that compress was given"
        )
    if prior is not None and reader.take(4) != module_fingerprint(prior.model):
        raise CompressionError(f"the strings were written with another prior of factor {factor}")
    return _Layout(tokens, valid, grid, positions, length)


def _join_layouts(layouts: Sequence[_Layout], name: str, width: int, model: Model) -> Code:
    """Return a code of zeros with the layout of the batch; shorter examples are padded."""
    tokens = max(layout.tokens for layout in layouts)
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
    return Code(
        z=torch.zeros(len(layouts), tokens, width, dtype=model.factors[name].code_dtype, device=device),
        mask=mask,
        grid=_join_grids(layouts, name),
        positions=positions,
        length=None if None in lengths else max(length for length in lengths if length is not None),
    )


def _join_grids(layouts: Sequence[_Layout], name: str) -> tuple[int, ...] | None:
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
