"""The rows of a table from an array: names, scales and categories of its columns, and missing values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

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
    declared = [column if isinstance(column, Column) else None for column in columns]
    names = [column.name if isinstance(column, Column) else column for column in columns]
    widths = [1 if column is None else column.width for column in declared]
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
    value = value.masked_fill(~present, 0.0)
    parts, masks, found, start = [], [], [], 0
    for column_name, column, width in zip(names, declared, widths, strict=True):
        taken = 1 if raw else width
        part, here = value[:, start : start + taken], present[:, start : start + taken]
        start += taken
        if column is None:
            known = part[here].double()
            std = float(known.std(correction=0)) if len(known) else 0.0
            column = Column(column_name, mean=float(known.mean()) if len(known) else 0.0, std=std or 1.0)
        elif column.kind == "category" and raw:
            part = _one_hot(name, column, part[:, 0], here[:, 0])
            here = here.expand(-1, width)
        parts.append(part)
        masks.append(here)
        found.append(column)
    rows, whole = torch.cat(parts, 1).float(), torch.cat(masks, 1)
    field = Field(kind="vector", shape=(rows.shape[1],), columns=tuple(found))
    return rows, None if bool(whole.all()) else whole, field


def _one_hot(name: str, column: Column, numbers: Tensor, present: Tensor) -> Tensor:
    known = numbers[present]
    wrong = (known != known.round()) | (known < 0) | (known >= column.width)
    if wrong.any():
        raise DataError(
            f"field {name!r}, column {column.name!r} holds {float(known[wrong][0]):g}: the number of a class is from 0 to "
            f"{column.width - 1}"
        )
    return F.one_hot(numbers.long(), column.width).to(numbers.dtype) * present.unsqueeze(1)
