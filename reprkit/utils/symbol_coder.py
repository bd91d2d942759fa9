"""Entropy coding of symbols under integer frequency tables: asymmetric numeral systems (Duda 2013, arXiv 1311.2540).

A string holds the little-endian 32-bit words of a stack coder with a 64-bit state and probabilities of 24 bits, without trailing
zero bytes.  These are the words of ``AnsCoder`` in the package constriction (Bamler 2022, arXiv 2201.01741), which does the work
where it is installed; ``Coder`` writes and reads the same bytes without it.  All arithmetic on tables is in integers, so that a
string is the same on every machine.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reprkit.errors import CompressionError

TOTAL = 2**16  # sum of a table of frequencies
MAX_ENTRIES = 2**14  # of a table: symbols of a larger vocabulary have a fixed rate
PRECISION = 24  # bits of a probability inside the coder
CHECKSUM = 4  # bytes of a checksum
_DIGIT = 12  # a symbol of a larger vocabulary is coded as two numbers, the lower one of 12 bits
_WORD = 2**32 - 1

Integers = NDArray[np.int64]


def to_frequencies(counts: Integers) -> Integers:
    """Convert counts of symbols (v) to frequencies from 1 that sum to ``TOTAL``, by largest remainders.

    One is added to every count, so that a symbol that was never counted can be coded.
    """
    weights = np.asarray(counts, np.int64) + 1
    shared = weights * (TOTAL - len(weights))
    frequencies, remainders = shared // weights.sum() + 1, shared % weights.sum()
    frequencies[np.argsort(-remainders, kind="stable")[: TOTAL - frequencies.sum()]] += 1
    return frequencies


def symbols_checksum(symbols: Integers) -> bytes:
    """Return the CRC-32 of symbols (t), ``CHECKSUM`` bytes."""
    return zlib.crc32(symbols.astype("<i4").tobytes()).to_bytes(CHECKSUM, "little")


def encode_symbols(
    rows: Iterable[Integers], vocab: Sequence[int], frequencies: Integers | None = None
) -> list[bytes]:
    """Encode the symbols (t q) of each example as one string.

    Args:
        rows: the symbols of each example, one column a slot.
        vocab: number of entries of each slot.
        frequencies: a table for each slot (q v), padded with zeros; None: every symbol of a slot costs the same.
    """
    coder = _column_coder(_tables(vocab, frequencies))
    return [coder.encode(_to_columns(row, vocab)) for row in rows]


def decode_symbols(
    strings: Sequence[bytes],
    counts: Sequence[int],
    vocab: Sequence[int],
    frequencies: Integers | None = None,
) -> list[Integers]:
    """Invert ``encode_symbols``: return the symbols (t q) of each string, of which there are ``counts`` a slot.

    Raises:
        CompressionError: a string was not written under these tables, or holds another number of symbols.
    """
    coder = _column_coder(_tables(vocab, frequencies))
    return [
        _from_columns(coder.decode(string, count), vocab, count)
        for string, count in zip(strings, counts, strict=True)
    ]


# ------------------------------------------------------------------ symbols and tables


def _tables(vocab: Sequence[int], frequencies: Integers | None) -> list[Integers]:
    """Return the frequencies of each column of ``_to_columns``."""
    tables = []
    for slot, entries in enumerate(vocab):
        if entries > MAX_ENTRIES:
            tables += [_uniform(((entries - 1) >> _DIGIT) + 1), _uniform(2**_DIGIT)]
        elif frequencies is None:
            tables.append(_uniform(entries))
        else:
            tables.append(np.asarray(frequencies[slot][:entries], np.int64))
    return tables


def _uniform(entries: int) -> Integers:
    return to_frequencies(np.zeros(entries, np.int64))


def _to_columns(symbols: Integers, vocab: Sequence[int]) -> list[Integers]:
    """Split symbols (t q) into columns (t), two for a slot whose vocabulary is too large for a table."""
    columns: list[Integers] = []
    for slot, entries in enumerate(vocab):
        column = symbols[:, slot]
        columns += [column] if entries <= MAX_ENTRIES else [column >> _DIGIT, column & ((1 << _DIGIT) - 1)]
    return columns


def _from_columns(columns: Sequence[Integers], vocab: Sequence[int], count: int) -> Integers:
    """Invert ``_to_columns``."""
    symbols, rest = np.empty((count, len(vocab)), np.int64), iter(columns)
    for slot, entries in enumerate(vocab):
        column = next(rest)
        symbols[:, slot] = column if entries <= MAX_ENTRIES else (column << _DIGIT) | next(rest)
        if count and symbols[:, slot].max() >= entries:
            raise CompressionError(f"the string holds a symbol outside of 0 to {entries - 1}")
    return symbols


def frequencies_to_edges(frequencies: Integers) -> Integers:
    """Return cumulative probabilities (... v + 1) of tables (... v), with the rounding of constriction's ``Categorical``."""
    entries = frequencies.shape[-1]
    cumulative = np.zeros((*frequencies.shape[:-1], entries + 1), np.int64)
    np.cumsum(frequencies, axis=-1, out=cumulative[..., 1:])
    return cumulative * (2**PRECISION - entries) // TOTAL + np.arange(entries + 1)


# ------------------------------------------------------------------ coders


class Coder:
    """A stack of symbols: the last one that was pushed is popped first."""

    def __init__(self, string: bytes = b"") -> None:
        words = _to_words(string).tolist()
        self.state = 0
        self.words: list[int] = words
        for _ in range(min(2, len(words))):
            self.state = self.state << 32 | words.pop()

    def push(self, lefts: Sequence[int], probabilities: Sequence[int]) -> None:
        """Push symbols, the last one first: the probability of each, and that of all symbols before it in its table."""
        state, words = self.state, self.words
        for left, probability in zip(reversed(lefts), reversed(probabilities), strict=True):
            if state >> 64 - PRECISION >= probability:
                words.append(state & _WORD)
                state >>= 32
            whole, rest = divmod(state, probability)
            state = whole << PRECISION | left + rest
        self.state = state

    def peek(self) -> int:
        """Return a number in [0, 2^PRECISION), which lies between the cumulative probabilities of the next symbol."""
        return self.state & (1 << PRECISION) - 1

    def pop(self, left: int, probability: int) -> None:
        """Remove the next symbol."""
        self.state = (self.state >> PRECISION) * probability + self.peek() - left
        if self.words and self.state <= _WORD:
            self.state = self.state << 32 | self.words.pop()

    def push_column(self, symbols: Integers, edges: Integers) -> None:
        """Push symbols (t) under one table, whose cumulative probabilities are ``edges`` (v + 1)."""
        self.push(edges[symbols].tolist(), np.diff(edges)[symbols].tolist())

    def pop_symbol(self, edges: Integers) -> int:
        """Pop one symbol under the table of ``edges`` (v + 1)."""
        symbol = int(edges.searchsorted(self.peek(), "right")) - 1
        self.pop(int(edges[symbol]), int(edges[symbol + 1] - edges[symbol]))
        return symbol

    def pop_column(self, count: int, edges: Integers) -> Integers:
        """Pop ``count`` symbols (t) under the table of ``edges`` (v + 1); faster than one by one."""
        bounds, symbols = edges.tolist(), np.empty(count, np.int64)
        # The symbol of each multiple of 2^8: few steps are left to the symbol itself.
        starts = (np.searchsorted(edges, np.arange(0, 2**PRECISION, 2**8), side="right") - 1).tolist()
        for place in range(count):
            quantile = self.peek()
            symbol = starts[quantile >> 8]
            while bounds[symbol + 1] <= quantile:
                symbol += 1
            self.pop(bounds[symbol], bounds[symbol + 1] - bounds[symbol])
            symbols[place] = symbol
        return symbols

    @property
    def empty(self) -> bool:
        """Whether no symbol is left."""
        return not self.words and self.state == 0

    def to_bytes(self) -> bytes:
        """Return the string."""
        words = [*self.words, self.state & _WORD, self.state >> 32]
        return np.array(words, "<u4").tobytes().rstrip(b"\0")


class ColumnCoder(Protocol):
    """A coder of columns of symbols (t), each under its own table."""

    def encode(self, columns: Sequence[Integers]) -> bytes:
        """Encode the columns as one string."""

    def decode(self, string: bytes, count: int) -> list[Integers]:
        """Decode columns of ``count`` symbols."""


class PlainColumnCoder:
    """The coder in Python."""

    def __init__(self, tables: Sequence[Integers]) -> None:
        self._edges = [frequencies_to_edges(table) for table in tables]

    def encode(self, columns: Sequence[Integers]) -> bytes:
        """Encode the columns as one string."""
        coder = Coder()
        for column, edges in zip(reversed(columns), reversed(self._edges), strict=True):
            coder.push_column(column, edges)
        return coder.to_bytes()

    def decode(self, string: bytes, count: int) -> list[Integers]:
        """Decode columns of ``count`` symbols."""
        coder = Coder(string)
        columns = [coder.pop_column(count, edges) for edges in self._edges]
        _check_end(coder.empty)
        return columns


class FastColumnCoder:
    """The coder of the package constriction."""

    def __init__(self, tables: Sequence[Integers]) -> None:
        self._models = [None if len(table) == 1 else fast_table(table) for table in tables]

    def encode(self, columns: Sequence[Integers]) -> bytes:
        """Encode the columns as one string."""
        coder = fast_coder()
        for column, model in zip(reversed(columns), reversed(self._models), strict=True):
            if model is not None and len(column):
                coder.encode_reverse(column.astype(np.int32), model)
        return fast_to_bytes(coder)

    def decode(self, string: bytes, count: int) -> list[Integers]:
        """Decode columns of ``count`` symbols."""
        coder = fast_coder(string)
        columns = [
            np.zeros(count, np.int64)
            if model is None or not count
            else coder.decode(model, count).astype(np.int64)
            for model in self._models
        ]
        _check_end(coder.is_empty())
        return columns


def _to_words(string: bytes) -> NDArray[np.uint32]:
    """Return the words of a string.

    Raises:
        CompressionError: it ends with a zero byte, which no writer leaves.
    """
    if string.endswith(b"\0"):
        raise CompressionError("the string ends with a zero byte, so it is damaged")
    return np.frombuffer(string + bytes(-len(string) % 4), "<u4").astype(np.uint32)


def fast_coder(string: bytes = b"") -> Any:
    """Return constriction's coder of a string, as ``Coder``."""
    from constriction import stream

    return stream.stack.AnsCoder(_to_words(string))


def fast_table(table: Integers) -> Any:
    """Return constriction's model of a table of frequencies (v)."""
    from constriction import stream

    # Float64 holds the whole numbers exactly, so that constriction's rounding is that of frequencies_to_edges.
    return stream.model.Categorical(np.asarray(table, np.float64), perfect=False)


def fast_to_bytes(coder: Any) -> bytes:
    """Return the string of constriction's coder."""
    string: bytes = coder.get_compressed().astype("<u4").tobytes()
    return string.rstrip(b"\0")


def _check_end(empty: bool) -> None:
    if not empty:
        raise CompressionError(
            "the string holds more symbols than expected, or was written under other tables"
        )


def _column_coder(tables: Sequence[Integers]) -> ColumnCoder:
    return FastColumnCoder(tables) if fast_coder_agrees() else PlainColumnCoder(tables)


@functools.cache
def fast_coder_agrees() -> bool:
    """Whether constriction is installed and writes the same bytes as ``PlainColumnCoder``, whatever its version."""
    tables = [to_frequencies(np.array(counts)) for counts in ((5, 0, 1000), range(1000), (1, 1))]
    columns = [np.arange(200) * 7 % len(table) for table in tables]
    string = PlainColumnCoder(tables).encode(columns)
    try:
        fast = FastColumnCoder(tables)
        return fast.encode(columns) == string and all(map(np.array_equal, fast.decode(string, 200), columns))
    except (ImportError, TypeError, AttributeError, ValueError):
        return False
