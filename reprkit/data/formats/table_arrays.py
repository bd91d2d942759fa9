"""The rows of a table from an array: names, scales and categories of its columns, and missing values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.data.formats.table_columns import encode_columns, number_column
from reprkit.data.signature import Column, Field
from reprkit.errors import DataError


def read_table(
    name: str, value: Tensor, mask: Tensor | None, columns: Sequence[str | Column]
) -> tuple[Float[Tensor, "n d"], Bool[Tensor, "n d"] | None, Field]:
    """Return the rows as vectors, the mask of their values (None: none is missing), and the field with its columns.

    Args:
        name: name of the field, for messages.
        value: (n d) numbers; NaN is a missing value.  With one element a column, a category is the number of its class, from 0;
            else it is one-hot.
        mask: False where a value is missing, in the shape of ``value``; None: where it is NaN.
        columns: the columns in order; a name alone is a number, whose mean and standard deviation are those of the array.

    Raises:
        DataError: not a matrix of numbers, a number of elements that does not fit the columns, or no such class.
    """
    if value.ndim != 2:
        raise DataError(
            f"columns of field {name!r}: a table is (n d), and the array has shape {tuple(value.shape)}"
        )
    widths = [column.width if isinstance(column, Column) else 1 for column in columns]
    raw = value.shape[1] == len(columns)
    if not raw and value.shape[1] != sum(widths):
        raise DataError(
            f"columns of field {name!r}: the array has {value.shape[1]} elements, and {len(columns)} columns have "
            f"{len(columns)}, or {sum(widths)} with one-hot categories"
        )
    value = value.double() if value.dtype == torch.float64 else value.float()
    present = ~value.isnan()
    if mask is not None:
        if mask.shape != value.shape or mask.dtype != torch.bool:
            raise DataError(
                f"field {name + '_mask'!r} must be Bool of the shape {tuple(value.shape)}, that of {name!r}"
            )
        present &= mask
    starts = range(len(columns)) if raw else [0, *itertools.accumulate(widths)][:-1]
    found = []
    for column, start in zip(columns, starts, strict=True):
        known = value[:, start][present[:, start]]
        if not isinstance(column, Column):
            column = number_column(column, known.cpu().numpy())
        elif column.kind == "category" and raw:
            _check_classes(name, column, known)
        found.append(column)
    if raw:
        rows, whole = encode_columns(value.masked_fill(~present, torch.nan), found)
    else:
        rows, whole = value.masked_fill(~present, 0.0).float(), present
    field = Field(kind="vector", shape=(rows.shape[1],), columns=tuple(found))
    return rows, None if bool(whole.all()) else whole, field


def _check_classes(name: str, column: Column, known: Tensor) -> None:
    wrong = (known != known.round()) | (known < 0) | (known >= column.width)
    if wrong.any():
        raise DataError(
            f"field {name!r}, column {column.name!r} holds {float(known[wrong][0]):g}: the number of a class is from 0 to "
            f"{column.width - 1}"
        )
