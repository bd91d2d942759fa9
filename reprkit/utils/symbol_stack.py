"""A stack of symbols that are coded one group after the other, where a table depends on symbols that were read before.

The bytes are those of ``reprkit.utils.symbol_coder``, with the package constriction and without it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from reprkit.utils.symbol_coder import (
    Coder,
    Integers,
    fast_coder,
    fast_coder_agrees,
    fast_table,
    fast_to_bytes,
    frequencies_to_edges,
)

_CHUNK = 2**14  # symbols whose own tables are in memory at a time


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
        self._coder.push_column(symbols, frequencies_to_edges(table))

    def pop(self, count: int, table: Integers) -> Integers:
        """Pop ``count`` symbols (t) under one table (v)."""
        return self._coder.pop_column(count, frequencies_to_edges(table))

    def push_each(self, symbols: Integers, tables: Integers, rows: Integers) -> None:
        """Push symbols (t), each under the table (k v) of its row (t)."""
        edges = frequencies_to_edges(tables)
        lefts = edges[rows, symbols]
        self._coder.push(lefts.tolist(), (edges[rows, symbols + 1] - lefts).tolist())

    def pop_each(self, tables: Integers, rows: Integers) -> Integers:
        """Pop a symbol (t) for each row (t) of the tables (k v)."""
        edges = frequencies_to_edges(tables)
        return np.array([self._coder.pop_symbol(edges[row]) for row in rows], np.int64)

    def empty(self) -> bool:
        """Whether no symbol is left."""
        return self._coder.empty

    def to_bytes(self) -> bytes:
        """Return the string."""
        return self._coder.to_bytes()


class FastStack:
    """The stack of the package constriction."""

    def __init__(self, string: bytes = b"") -> None:
        self._coder = fast_coder(string)
        from constriction import stream

        self._tables: Any = stream.model.Categorical(perfect=False)  # a table for each symbol

    def push(self, symbols: Integers, table: Integers) -> None:
        """Push symbols (t) under one table (v)."""
        if len(table) > 1 and len(symbols):
            self._coder.encode_reverse(symbols.astype(np.int32), fast_table(table))

    def pop(self, count: int, table: Integers) -> Integers:
        """Pop ``count`` symbols (t) under one table (v)."""
        if len(table) == 1 or not count:
            return np.zeros(count, np.int64)
        return self._coder.decode(fast_table(table), count).astype(np.int64)

    def push_each(self, symbols: Integers, tables: Integers, rows: Integers) -> None:
        """Push symbols (t), each under the table (k v) of its row (t)."""
        for start in reversed(range(0, len(rows), _CHUNK)):
            part = slice(start, start + _CHUNK)
            own = np.asarray(tables[rows[part]], np.float64)
            self._coder.encode_reverse(symbols[part].astype(np.int32), self._tables, own)

    def pop_each(self, tables: Integers, rows: Integers) -> Integers:
        """Pop a symbol (t) for each row (t) of the tables (k v)."""
        symbols = np.empty(len(rows), np.int64)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            symbols[part] = self._coder.decode(self._tables, np.asarray(tables[rows[part]], np.float64))
        return symbols

    def empty(self) -> bool:
        """Whether no symbol is left."""
        return bool(self._coder.is_empty())

    def to_bytes(self) -> bytes:
        """Return the string."""
        return fast_to_bytes(self._coder)
