"""A stack of symbols that are coded one group after the other, where a table depends on symbols that were read before.

The bytes are those of ``reprkit.utils.symbol_coder``, with the package constriction and without it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reprkit.utils.symbol_coder import (
    PRECISION,
    Coder,
    Integers,
    fast_coder_agrees,
    frequencies_to_edges,
)


class SymbolStack(Protocol):
    """A stack: what was pushed last is popped first, so a writer pushes the groups in the reverse order of the reader's.

    A table holds frequencies from 1 that sum to 2^16.
    """

    def push(self, symbols: Integers, table: Integers) -> None:
        """Push symbols (t) under one table (v)."""

    def pop(self, count: int, table: Integers) -> Integers:
        """Pop ``count`` symbols (t) under one table (v), in the order in which they were pushed."""

    def push_each(self, symbols: Integers, tables: Integers, rows: Integers) -> None:
        """Push symbols (t), each under the table (k v) of its row (t)."""

    def pop_each(self, tables: Integers, rows: Integers) -> Integers:
        """Pop a symbol (t) for each row (t) of the tables (k v)."""

    def empty(self) -> bool:
        """Whether no symbol is left."""

    def to_bytes(self) -> bytes:
        """Return the string."""


def open_stack(string: bytes = b"") -> SymbolStack:
    """Return the stack that a string holds, with the fastest coder that is installed."""
    return FastStack(string) if fast_coder_agrees() else PlainStack(string)


class PlainStack:
    """The stack in Python."""

    def __init__(self, string: bytes = b"") -> None:
        self._coder = Coder(string)

    def push(self, symbols: Integers, table: Integers) -> None:
        """Push symbols (t) under one table (v)."""
        edges = frequencies_to_edges(table)
        self._coder.push(edges[symbols].tolist(), np.diff(edges)[symbols].tolist())

    def pop(self, count: int, table: Integers) -> Integers:
        """Pop ``count`` symbols (t) under one table (v)."""
        edges = frequencies_to_edges(table)
        bounds, symbols = edges.tolist(), np.empty(count, np.int64)
        # The symbol of each multiple of 2^8: few steps are left to the symbol itself.
        starts = (np.searchsorted(edges, np.arange(0, 2**PRECISION, 2**8), side="right") - 1).tolist()
        for place in range(count):
            quantile = self._coder.peek()
            symbol = starts[quantile >> 8]
            while bounds[symbol + 1] <= quantile:
                symbol += 1
            self._coder.pop(bounds[symbol], bounds[symbol + 1] - bounds[symbol])
            symbols[place] = symbol
        return symbols

    def push_each(self, symbols: Integers, tables: Integers, rows: Integers) -> None:
        """Push symbols (t), each under the table (k v) of its row (t)."""
        _push_each(self._coder, symbols, tables, rows)

    def pop_each(self, tables: Integers, rows: Integers) -> Integers:
        """Pop a symbol (t) for each row (t) of the tables (k v)."""
        edges = frequencies_to_edges(tables)
        symbols = np.empty(len(rows), np.int64)
        for place, row in enumerate(rows):
            own = edges[row]
            symbol = int(np.searchsorted(own, self._coder.peek(), side="right")) - 1
            self._coder.pop(int(own[symbol]), int(own[symbol + 1] - own[symbol]))
            symbols[place] = symbol
        return symbols

    def empty(self) -> bool:
        """Whether no symbol is left."""
        return self._coder.empty

    def to_bytes(self) -> bytes:
        """Return the string."""
        return self._coder.to_bytes()


class FastStack:
    """The stack of the package constriction."""

    def __init__(self, string: bytes = b"") -> None:
        from constriction import stream

        self._new: Any = stream.stack.AnsCoder
        self._categorical: Any = stream.model.Categorical
        self._coder: Any = self._open(string)

    def _open(self, string: bytes) -> Any:
        words: NDArray[np.uint32] = np.frombuffer(string + bytes(-len(string) % 4), "<u4").astype(np.uint32)
        return self._new(words)

    def _model(self, table: Integers) -> Any:
        # Float64 holds the whole numbers exactly, so that constriction's rounding is that of frequencies_to_edges.
        return self._categorical(np.asarray(table, np.float64), perfect=False)

    def push(self, symbols: Integers, table: Integers) -> None:
        """Push symbols (t) under one table (v)."""
        if len(table) > 1 and len(symbols):
            self._coder.encode_reverse(symbols.astype(np.int32), self._model(table))

    def pop(self, count: int, table: Integers) -> Integers:
        """Pop ``count`` symbols (t) under one table (v)."""
        if len(table) == 1 or not count:
            return np.zeros(count, np.int64)
        return self._coder.decode(self._model(table), count).astype(np.int64)

    def push_each(self, symbols: Integers, tables: Integers, rows: Integers) -> None:
        """Push symbols (t), each under the table (k v) of its row (t).

        In Python: constriction takes ten times as long where each symbol has a table of its own.
        """
        coder = Coder(self.to_bytes())
        _push_each(coder, symbols, tables, rows)
        self._coder = self._open(coder.to_bytes())

    def pop_each(self, tables: Integers, rows: Integers) -> Integers:
        """Pop a symbol (t) for each row (t) of the tables (k v)."""
        if not len(rows):
            return np.zeros(0, np.int64)
        own = np.asarray(tables, np.float64)[rows]
        return self._coder.decode(self._categorical(perfect=False), own).astype(np.int64)

    def empty(self) -> bool:
        """Whether no symbol is left."""
        return bool(self._coder.is_empty())

    def to_bytes(self) -> bytes:
        """Return the string."""
        return self._coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


def _push_each(coder: Coder, symbols: Integers, tables: Integers, rows: Integers) -> None:
    edges = frequencies_to_edges(tables)
    lefts = edges[rows, symbols]
    coder.push(lefts.tolist(), (edges[rows, symbols + 1] - lefts).tolist())
