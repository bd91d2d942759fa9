"""Rows of Arrow tables: lists of numbers as NumPy arrays, which is many times as fast as lists of Python's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def rows_of(table: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a ``pyarrow.Table``.

    Lists of numbers become arrays (n,), and lists of lists of equal length arrays (t c), in the column's dtype and in memory of
    their own.  All other values are as ``to_pylist`` returns them, as are lists with missing numbers or of unequal length.
    """
    columns = [_values(table.column(name)) for name in table.column_names]
    for values in zip(*columns, strict=True):
        yield dict(zip(table.column_names, values, strict=True))


def _values(column: Any) -> Sequence[Any]:
    """Return the values of a ``pyarrow.ChunkedArray``."""
    found: list[Any] = []
    for chunk in column.chunks:
        depth = _depth(chunk.type)
        found += (
            chunk.to_pylist() if depth == 0 else [_numbers(chunk, row, depth) for row in range(len(chunk))]
        )
    return found


def _depth(kind: Any) -> int:
    """Return the nesting depth of a type of lists of numbers, 1 or 2; 0 for all others."""
    import pyarrow.types as types

    depth = 0
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth if depth <= 2 and (types.is_integer(kind) or types.is_floating(kind)) else 0


def _numbers(chunk: Any, row: int, depth: int) -> Any:
    """Return the numbers of a row as an array; as lists where they are not full, or missing."""
    scalar = chunk[row]
    lists = scalar.values
    if lists is None or lists.null_count:
        return scalar.as_py()
    shape: tuple[int, ...] = (-1,)
    if depth == 2:
        lengths = set(lists.value_lengths().to_pylist())
        if len(lengths) != 1 or lengths == {0}:
            return scalar.as_py()
        shape, lists = (len(lists), lengths.pop()), lists.flatten()
        if lists.null_count:
            return scalar.as_py()
    return np.array(lists.to_numpy(zero_copy_only=False)).reshape(shape)
