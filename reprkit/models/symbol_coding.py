"""Lossless coding of data under a causal model without an encoder: text, symbols, codes of another model.

A sequence is cut into streams of equal length, which the model reads side by side as one batch; each symbol costs its -log2 p
given the symbols before it in its stream.  The model's probabilities are mixed with counts of the data that was already coded
(``reprkit.utils.adaptive_counts``), where the vocabulary has at most 256 symbols.  A string of bytes::

    version 1 │ CRC-32 4 │ fingerprint of the model 4 │ number of symbols │ number of streams │ orders of the counts, or 0
    │ CRC-32 of the symbols 4 │ length of the payload │ payload │ zeros

The zeros are there only for data that takes less than a byte for each 1,024 symbols: a short string cannot claim a long text.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from reprkit.data.checks import check_batch
from reprkit.errors import BuildError, CompressionError
from reprkit.models.code_header import close_string, open_string
from reprkit.models.fingerprints import fingerprint
from reprkit.models.priors import check_causal
from reprkit.types import Batch
from reprkit.utils.adaptive_counts import ORDERS, AdaptiveCounts
from reprkit.utils.exact_probabilities import logits_to_edges
from reprkit.utils.modes import eval_mode
from reprkit.utils.symbol_coder import CHECKSUM, Coder, Integers, symbols_checksum
from reprkit.utils.varints import encode_bytes, encode_varint

if TYPE_CHECKING:
    from reprkit.models.model import Model

STREAM = 2**12  # a sequence is cut into as many streams as it has parts of this many symbols
MOST_STREAMS = 64
COUNTED = 256  # largest vocabulary whose symbols are counted
_FREE, _PER_BYTE = 2**16, 2**10  # symbols that a string may claim, and that each of its bytes allows


def codes_data(model: Model) -> bool:
    """Whether ``compress`` writes the data itself: the model has no encoder."""
    return not model.factors


@torch.no_grad()
def compress_symbols(model: Model, batch: Batch, *, adapt: bool = True) -> list[bytes]:
    """Return the symbols of field ``x`` as bytes, one string an example of any length; ``decompress_symbols`` reads them.

    The probabilities come from the model in float64 and are rounded, see ``reprkit.utils.exact_probabilities``; a string depends on
    no other example of the batch.

    Args:
        model: a causal decoder of tokens (t,), without an encoder.
        batch: its field ``x`` (b n), and ``x_mask``.
        adapt: mix the model's probabilities with counts of what was coded before, which the reader has, too.

    Raises:
        BuildError: the decoder is not causal, or its data is not tokens.
        DataError: values that are no symbols of the model's vocabulary.
    """
    exact = _exact_copy(model)
    if batch["x"].numel():
        assert model.signature is not None  # _exact_copy
        check_batch(batch, model.signature.any_length(), fields=("x",))
    symbols, mask = batch["x"].cpu(), batch.get("x_mask")
    rows = symbols if mask is None else [row[valid.cpu()] for row, valid in zip(symbols, mask, strict=True)]
    start = fingerprint(model)
    return [close_string(start + _write(exact, row.numpy().astype(np.int64), adapt)) for row in rows]


@torch.no_grad()
def decompress_symbols(model: Model, strings: Sequence[bytes]) -> dict[str, Tensor]:
    """Return the batch that ``compress_symbols`` wrote: ``x`` (b n), and ``x_mask`` where the lengths differ.

    Raises:
        BuildError: as ``compress_symbols``.
        CompressionError: a string is damaged, of another model or version, claims more symbols than its bytes can hold, or the
            model computes other probabilities than when it was written.
    """
    exact, start = _exact_copy(model), fingerprint(model)
    rows = [torch.from_numpy(_read(exact, string, number, start)) for number, string in enumerate(strings)]
    lengths = torch.tensor([len(row) for row in rows])
    batch = {"x": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)}
    if len(set(lengths.tolist())) > 1:
        batch["x_mask"] = torch.arange(batch["x"].shape[1]) < lengths.unsqueeze(1)
    return {name: value.to(model.device) for name, value in batch.items()}


def _exact_copy(model: Model) -> Model:
    check_causal(model)
    field = None if model.signature is None else model.signature["x"]
    if field is None or field.kind != "tokens":
        kind = "data without a signature" if field is None else f"{field.kind} data ({field.axes})"
        raise BuildError(
            f"a model without an encoder compresses tokens (t,), and this one predicts {kind}: "
            "build it on symbols, or with an encoder and a discrete latent"
        )
    return copy.deepcopy(model).double().eval()


def _write(model: Model, symbols: Integers, adapt: bool) -> bytes:
    streams = min(max(len(symbols) // STREAM, 1), MOST_STREAMS)
    columns = _to_columns(symbols, streams)
    vocab = (model.signature["x"].vocab if model.signature else None) or 0
    orders = ORDERS if adapt and vocab <= COUNTED else 0
    lefts, probabilities = [], []
    steps = _steps(model, columns.shape, len(symbols), orders > 0)
    edges = next(steps, None)
    for column, active in zip(columns, _active(len(symbols), streams), strict=True):
        assert edges is not None
        rows = np.arange(active)
        found = edges[rows, column[:active]]
        lefts += found.tolist()
        probabilities += (edges[rows, column[:active] + 1] - found).tolist()
        edges = steps.send(column)
    coder = Coder()
    coder.push(lefts, probabilities)
    payload = coder.to_bytes()
    header = (
        encode_varint(len(symbols)) + encode_varint(streams) + bytes([orders]) + symbols_checksum(symbols)
    )
    return header + encode_bytes(payload) + bytes(_padding(len(symbols), len(payload)))


def _read(model: Model, string: bytes, number: int, start: bytes) -> Integers:
    reader = open_string(string, number, start)
    count, streams = reader.varint(), reader.varint()
    if count > _FREE + _PER_BYTE * reader.size or not 1 <= streams <= MOST_STREAMS:
        reader.refuse(f"it claims {count:,} symbols in {streams:,} streams and {reader.size:,} bytes")
    orders = reader.take(1)[0]
    if orders not in (0, ORDERS):
        reader.refuse(f"it claims counts of order {orders}, and this reprkit has {ORDERS}")
    checksum = reader.take(CHECKSUM)
    payload = reader.byte_string()
    reader.take(_padding(count, len(payload)))
    reader.check_end()
    coder, columns = Coder(payload), _to_columns(np.zeros(count, np.int64), streams)
    steps = _steps(model, columns.shape, count, orders > 0)
    edges = next(steps, None)
    for column, active in zip(columns, _active(count, streams), strict=True):
        assert edges is not None
        for stream in range(active):
            column[stream] = coder.pop_symbol(edges[stream])
        edges = steps.send(column)
    symbols = np.ascontiguousarray(columns.T).reshape(-1)[:count]
    if not coder.empty or symbols_checksum(symbols) != checksum:
        raise CompressionError(
            f"string {number} does not decode to what was written: the model computes other probabilities here "
            "(another version of torch or processor); read it where it was written"
        )
    return symbols


def _steps(
    model: Model, shape: tuple[int, ...], count: int, adapt: bool
) -> Generator[Integers, Integers, None]:
    """Yield the cumulative probabilities of the next symbols (streams v+1); takes the symbols by ``send``.

    After the last step it yields an empty array.
    """
    length, streams = shape
    counts = None
    decoder = model.get_decoder()
    with eval_mode(model):
        state = decoder.start(None, size=streams, length=length) if length else None
    previous = None
    for active in _active(count, streams):
        with torch.no_grad(), eval_mode(model):
            decoded, state = decoder.step(previous, state)
        logits = decoded.params["logits"].reshape(streams, -1).log_softmax(-1).cpu().numpy()
        if adapt:
            counts = counts or AdaptiveCounts(logits.shape[1], streams)
            logits = counts.mix(logits)
        column = yield logits_to_edges(logits)
        if counts is not None:
            counts.update(logits, column, active)
        previous = torch.from_numpy(column.copy()).to(model.device).reshape(streams, 1, 1)
    yield np.zeros((streams, 0), np.int64)


def _to_columns(symbols: Integers, streams: int) -> Integers:
    """Return the symbols by step and stream (t streams); the last streams end in zeros."""
    length = -(-len(symbols) // streams)
    return np.pad(symbols, (0, length * streams - len(symbols))).reshape(streams, length).T.copy()


def _active(count: int, streams: int) -> Iterator[int]:
    """Yield for each step the number of streams that still have a symbol."""
    length = -(-count // streams)
    starts = np.arange(streams) * length
    for step in range(length):
        yield int((starts + step < count).sum())


def _padding(count: int, size: int) -> int:
    return max(0, -(-(count - _FREE) // _PER_BYTE) - size)
