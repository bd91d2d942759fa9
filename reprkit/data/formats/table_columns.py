"""Columns of a table in memory: statistics of a number, and rows as vectors with one-hot categories and a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.data.signature import Column


def column_names(columns: str | Sequence[str | Column]) -> list[str]:
    """Return the names of a field's columns."""
    if isinstance(columns, str):
        return [columns]
    return [column.name if isinstance(column, Column) else column for column in columns]


def number_column(name: str, values: Float[np.ndarray, " n"], unit: str = "") -> Column:
    """Describe a number by its known values: a constant has the standard deviation 1, and without a value the mean is 0."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return Column(name, unit=unit)
    # Compared exactly, because rounding of the mean gives a constant such as 0.1 a deviation of 1e-17.
    with np.errstate(invalid="ignore"):  # Column refuses infinite values
        std = float(values.std()) if values.min() < values.max() else 1.0
    return Column(name, mean=float(values.mean()), std=std or 1.0, unit=unit)


def encode_columns(
    values: Float[Tensor, "n k"], columns: Sequence[Column]
) -> tuple[Float[Tensor, "n d"], Bool[Tensor, "n d"]]:
    """Convert one value per column to vectors, float32: numbers as they are, categories one-hot; and which elements are known.

    Args:
        values: a category is the number of its class, from 0; NaN is a missing value, whose elements become 0 and False.
        columns: in the order of ``values``.
    """
    known = ~values.isnan()
    filled = values.masked_fill(~known, 0.0)
    widths = torch.tensor([column.width for column in columns], device=values.device)
    starts = widths.cumsum(0) - widths
    category = torch.tensor([column.kind == "category" for column in columns], device=values.device)
    x = torch.zeros(len(values), int(widths.sum()), device=values.device)
    x[:, starts[~category]] = filled[:, ~category].float()
    x.scatter_(1, starts[category] + filled[:, category].long(), known[:, category].float())
    return x, known.repeat_interleave(widths, 1)
