"""Coding of symbols whose tables are known before the first is read: all symbols of one table together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from reprkit.utils.symbol_stack import SymbolStack

Integers = NDArray[np.int64]
TableOf = Callable[[int], Integers]


def push_grouped(stack: SymbolStack, symbols: Integers, tables: Integers, table_of: TableOf) -> None:
    """Push symbols (t) by the numbers of their tables (t), the highest number first."""
    for number, places in reversed(list(_groups(tables))):
        stack.push(symbols[places], table_of(number))


def pop_grouped(stack: SymbolStack, tables: Integers, table_of: TableOf) -> Integers:
    """Invert ``push_grouped``: return the symbols (t)."""
    symbols = np.empty(len(tables), np.int64)
    for number, places in _groups(tables):
        symbols[places] = stack.pop(len(places), table_of(number))
    return symbols


def _groups(tables: Integers) -> Iterator[tuple[int, Integers]]:
    """Yield each number of a table, ascending, and the places of its symbols, in their order."""
    order = np.argsort(tables, kind="stable")
    numbers, starts = np.unique(tables[order], return_index=True)
    for number, places in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        yield number, places
