"""Codes as bytes: one string an example, with a header that refuses another model and damage; the tables of the symbols.

A causal model without an encoder has no codes: its data itself is written, without loss; see ``symbol_coding``.

::

    version 1 │ CRC-32 4 │ fingerprint of the model 4 │ for each factor: layout of its code, length of its payload, payload

The CRC-32 covers all that follows it.  The payload is what ``Latent.write`` returns, or the symbols under a prior model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reprkit.errors import BuildError, DataError, PartArgumentError, nearest
from reprkit.models.code_header import (
    TokenLimit,
    close_string,
    join_layouts,
    layout_to_bytes,
    open_string,
    read_layout,
)
from reprkit.models.coding_prior import CodingPrior
from reprkit.models.fingerprints import fingerprint
from reprkit.models.priors import code_length
from reprkit.models.symbol_coding import codes_data, compress_symbols, decompress_symbols
from reprkit.types import Batch, Code, Codes
from reprkit.utils.modes import eval_mode
from reprkit.utils.varints import ByteReader, encode_bytes

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.interfaces import Latent
    from reprkit.models.model import Model


Priors = Mapping[str, "Model | str"] | None


@torch.no_grad()
def compress(
    model: Model, batch: Batch | Codes, *, priors: Priors = None, slots: int | None = None
) -> list[bytes]:
    """Encode a batch and return its codes as bytes, one string an example, which ``decompress`` reads.

    A causal model without an encoder writes the symbols of the batch without loss: see ``symbol_coding.compress_symbols``.

    Symbols cost what the tables of ``Latent.frequencies`` say, see ``fit_frequencies``; without tables each costs log2 of its
    vocabulary.  Under a prior a symbol costs its -log2 p given the symbols before.  The header takes about 17 bytes a string.

    Args:
        model: a model whose latents all write bytes (``Latent.writes``): discrete ones, and codecs.
        batch: what the data set yields, or codes.
        priors: factor -> a causal model of its codes, or its folder.  It computes in float64 and its
            logits are rounded, so threads and precision do not matter.  If a reader still computes other probabilities (another
            version or processor), the string is refused.
        slots: write only the first slots of each token, where the latent can be read from fewer, as ``residual-vq`` is: one model
            then serves several rates.  All by default.

    Raises:
        PartArgumentError: a latent is continuous and writes no bytes, or cannot be read from that many slots.
        BuildError: a prior of an unknown factor, of other codes, or that is not a causal decoder without an encoder; priors or
            slots of a model without an encoder.
        DataError: the batch does not have the shapes and types of the signature.
    """
    if codes_data(model) and not isinstance(batch, Codes):
        if priors or slots is not None:
            raise BuildError("priors= and slots= are of codes, and a model without an encoder has none")
        return compress_symbols(model, batch)
    check_writes(model)
    coding = _load_priors(model, priors)
    with eval_mode(model):
        codes = batch if isinstance(batch, Codes) else model.encode(batch)
        if slots is not None:
            if coding:
                raise BuildError("a prior gives the symbols of all slots a probability: leave out slots=")
            codes = first_slots(model, codes, slots)
        start = fingerprint(model)
        return [close_string(start + body) for body in write_bodies(model, codes, coding)]


def write_bodies(model: Model, codes: Codes, coding: Mapping[str, CodingPrior] | None = None) -> list[bytes]:
    """Return the content of the strings of codes, one an example: layout and payload of each factor.

    Raises:
        BuildError: the codes have other factors than the model.
    """
    if set(codes) != set(model.factors):
        raise BuildError(
            f"the codes have the factors {', '.join(codes) or 'none'}, and the model {', '.join(model.factors)}"
        )
    payloads = {
        name: ((coding or {}).get(name) or factor.latent).write(codes[name])
        for name, factor in model.factors.items()
    }
    numbers = {name: len(factor.latent.vocab or ()) for name, factor in model.factors.items()}
    return join_payloads(codes, payloads, coding, numbers)


def join_payloads(
    codes: Codes,
    payloads: Mapping[str, Sequence[bytes]],
    coding: Mapping[str, CodingPrior] | None = None,
    slots: Mapping[str, int] | None = None,
) -> list[bytes]:
    """Return the content of the strings of codes whose payloads are written, by factor in the order of the model's.

    ``slots``: the number that the latent of each factor has; where a code has fewer, its string says so.
    """
    bodies = [bytearray() for _ in next(iter(payloads.values()))]
    for name, written in payloads.items():
        prior = (coding or {}).get(name)
        for row, (body, payload) in enumerate(zip(bodies, written, strict=True)):
            body += layout_to_bytes(codes[name], row, prior, (slots or {}).get(name))
            body += encode_bytes(payload)
    return [bytes(body) for body in bodies]


@torch.no_grad()
def decompress(model: Model, strings: Sequence[bytes], *, priors: Priors = None) -> Codes | dict[str, Tensor]:
    """Return the codes that ``compress`` wrote, as one batch; ``model.decode`` of them is that of the codes written.

    Of a causal model without an encoder: the batch itself, ``x`` (b n) and, where lengths differ, ``x_mask``.

    Args:
        model: the model that wrote the strings, or its saved copy.
        strings: one for each example.
        priors: those given to ``compress``.

    Raises:
        CompressionError: a string is damaged, was written with another model, prior or version of the format, or claims a code that
            is larger than the model's and than its bytes can hold.
        DataError: no strings, or examples whose layouts cannot be one batch.
    """
    if isinstance(strings, bytes) or not strings or not all(isinstance(s, bytes) for s in strings):
        raise DataError("decompress takes a list of the strings (bytes) that compress returned, at least one")
    if codes_data(model):
        return decompress_symbols(model, strings)
    check_writes(model)
    start = fingerprint(model)
    readers = [open_string(string, number, start) for number, string in enumerate(strings)]
    codes = read_bodies(model, readers, _load_priors(model, priors))
    for reader in readers:
        reader.check_end()
    return codes


def read_bodies(
    model: Model, readers: Sequence[ByteReader], coding: Mapping[str, CodingPrior] | None = None
) -> Codes:
    """Invert ``write_bodies``: return the codes at the readers' positions as one batch.

    Raises:
        CompressionError, DataError: as ``decompress``.
    """
    codes = {}
    with eval_mode(model):
        for name, factor in model.factors.items():
            prior = (coding or {}).get(name)
            limit = _token_limit(model, name, prior is not None)
            layouts, payloads = [], []
            for reader in readers:
                layouts.append(read_layout(reader, name, prior, limit))
                payloads.append(reader.byte_string())
            like = join_layouts(layouts, name, factor.latent, model, limit)
            codes[name] = (factor.latent if prior is None else prior).read(payloads, like)
    return Codes(codes)


def skip_body(model: Model, reader: ByteReader) -> int:
    """Pass over one example's code; return the bytes of its payloads.

    Raises:
        CompressionError: as ``decompress``.
    """
    size = 0
    for name in model.factors:
        read_layout(reader, name, None, _token_limit(model, name))
        size += len(reader.byte_string())
    return size


def _token_limit(model: Model, name: str, prior: bool = False) -> TokenLimit:
    latent = model.latent(name)
    return TokenLimit(
        own=None if model.signature is None else code_length(model, name),
        values=latent.out_dim + 2 * len(latent.vocab or ()),
        prior=prior,
    )


@torch.no_grad()
def fit_frequencies(model: Model, data: Dataset | str, *, batch: int = 256) -> dict[str, float]:
    """Count the symbols of all codes of a data set, and set the tables of every discrete latent from them.

    Fit on the training data, after training: codes are counted as evaluation and ``compress`` compute them, whereas a training
    step may see corrupted inputs, random draws and codes that still change.  The tables belong to the model and are saved with
    it; strings written before are then of another model.

    Args:
        model: a model with a discrete latent.
        data: the data set to count on, or a reference to one; its images may have another size, if the encoders provide "any_size".
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
    counts = {name: factor.latent.zero_counts() for name, factor in discrete.items()}
    examples = 0
    with eval_mode(model):
        for rows in dataset(data).batches(batch):
            codes = model.encode(rows, factors=tuple(discrete), any_length=True)
            examples += len(next(iter(codes.values())).z)
            for name, code in codes.items():
                discrete[name].latent.count_symbols(code, counts[name])
    bits = {}
    for name, factor in discrete.items():
        factor.latent.set_frequencies(counts[name])
        bits[name] = factor.latent.table_bits(counts[name]) / examples
    return bits


def first_slots(model: Model, codes: Codes, slots: int | None) -> Codes:
    """Return the codes of the first slots of each token; None: of all.

    Raises:
        PartArgumentError: there are fewer, or a latent needs all.
    """
    if slots is None:
        return codes
    return Codes({name: _first_slots(model, name, codes[name], slots) for name in codes})


def _first_slots(model: Model, name: str, code: Code, slots: int) -> Code:
    """Return the code of the first slots of each token.

    Raises:
        PartArgumentError: there are fewer, or the latent needs all.
    """
    latent, vocab = model.latent(name), model.latent(name).vocab or ()
    if not 1 <= slots <= len(vocab):
        raise PartArgumentError(f"slots={slots}: a token of factor {name} has {len(vocab)} slots")
    if slots == len(vocab) or code.indices is None:
        return code
    indices = code.indices[..., :slots]
    return Code.of(code, z=latent.embed(indices).to(code.z), indices=indices)


def check_writes(model: Model) -> None:
    """Check that all latents write bytes.

    Raises:
        BuildError: a model without an encoder.
        PartArgumentError: a latent is continuous and writes no bytes.
    """
    if not model.factors:
        raise BuildError(
            "this model has no encoder, so it has no codes to compress: build it with encoder= or factors="
        )
    for name, factor in model.factors.items():
        if not factor.latent.writes:
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


def fixed_bits(latent: Latent, code: Code) -> float:
    """Return the bits of the symbols of the valid tokens at log2 of the vocabulary each."""
    tokens = code.z.shape[0] * code.z.shape[1] if code.mask is None else int(code.mask.sum())
    return tokens * sum(math.log2(entries) for entries in latent.vocab or ())
