"""Reader of several columns of a table as one vector: numbers and categories, each of which may be missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.data.formats.value_readers import ValueReader, type_name
from reprkit.data.signature import Column, Field
from reprkit.errors import DataError, nearest


def check_categories(categories: Iterable[str], readers: Iterable[ValueReader]) -> None:
    """Check that each column of ``categories=`` belongs to a table.

    Raises:
        DataError: one does not.
    """
    names = [name for reader in readers if isinstance(reader, TableReader) for name in reader.names]
    for column in categories:
        if column not in names:
            raise DataError(
                f"categories: {column!r} is none of the columns of a table.{nearest(column, names)}"
            )


class TableReader(ValueReader):
    """Convert the values of a row, one for each column, to a vector (d,): numbers as they are, categories one-hot.

    The mean and standard deviation of numbers and the classes of categories are those of the rows that were observed.

    Args:
        names: of the columns.
        categories: names of those that are categories.
        classes: column -> names of its classes, for values that are their numbers (ClassLabel).
        declared: column -> its description, instead of what the observed rows say; where all are declared, rows need not be
            observed.
        masked: whether every row has a mask, for rows that cannot all be observed.
    """

    def __init__(
        self,
        names: Sequence[str],
        categories: Sequence[str],
        classes: Mapping[str, Sequence[str]],
        declared: Mapping[str, Column] | None = None,
        masked: bool = False,
    ) -> None:
        self._declared = dict(declared or {})
        stated = {name for name, column in self._declared.items() if column.kind == "category"}
        self.names = list(names)
        self.categories = frozenset(name for name in categories if name not in self._declared) | stated
        self._codes = {name: list(known) for name, known in classes.items()}
        self._seen: dict[str, dict[str, None]] = {name: {} for name in names if name in self.categories}
        # count, mean and sum of squared distances from it, of each number (Welford 1962)
        self._moments = {name: (0, 0.0, 0.0) for name in names if name not in self.categories}
        self._columns: tuple[Column, ...] = ()
        self.missing = masked  # whether a value of the observed rows is
        self.finished = False  # whether all rows were observed
        if not self.categories - self._declared.keys():  # else the classes are not known yet
            self._columns = self._describe()

    @property
    def ready(self) -> bool:
        """Whether rows can be converted: the classes of all categories are known."""
        return bool(self._columns)

    def field(self) -> Field:
        """Return the vector with its columns."""
        if not self.finished:
            self.finish()
        width = sum(column.width for column in self._columns)
        return Field(kind="vector", shape=(width,), columns=self._columns)

    def finish(self) -> None:
        """Fix the columns, once all rows were observed.

        Raises:
            DataError: a category with fewer than two classes, or a number without a finite spread.
        """
        self._columns, self.finished = self._describe(), True

    def _describe(self) -> tuple[Column, ...]:
        columns = []
        for name in self.names:
            if name in self._declared:
                columns.append(self._declared[name])
            elif name in self.categories:
                known = self._codes.get(name)
                columns.append(Column(name, "category", classes=tuple(known or sorted(self._seen[name]))))
            else:
                count, mean, squares = self._moments[name]
                std = math.sqrt(squares / count) if count else 0.0
                columns.append(Column(name, mean=mean, std=std or 1.0))  # a constant has no spread
        return tuple(columns)

    def validate(self, value: Any) -> list[Any]:
        """Return the row as numbers and names of classes, None where a value is missing."""
        row = [self._validate(name, item) for name, item in zip(self.names, value, strict=True)]
        if all(item is None for item in row):
            raise DataError("has no value in any column")
        return row

    def _validate(self, name: str, value: Any) -> Any:
        if value is None or (isinstance(value, float) and math.isnan(value)) or value == "":
            return None
        if name in self.categories:
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # integers of a column with missing values are floats
            if not isinstance(value, str | int | bool):
                raise DataError(f"{name!r} is {type_name(value)}, not a category")
            codes = self._codes.get(name)
            text = (
                str(value) if codes is None else codes[int(value)] if 0 <= int(value) < len(codes) else None
            )
            if self._columns and text is not None:
                known = self._columns[self.names.index(name)].classes
                if text not in known:
                    raise DataError(f"{name!r} holds {text!r}, which is none of its classes")
            return text
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"{name!r} is {type_name(value)}, not a finite number")
        return float(value)

    def observe(self, value: Any) -> None:
        """Take account of a validated row."""
        for name, item in zip(self.names, value, strict=True):
            if item is None:
                self.missing = True
            elif name in self.categories:
                self._seen[name][item] = None
            else:
                count, mean, squares = self._moments[name]
                step = (item - mean) / (count + 1)
                self._moments[name] = (count + 1, mean + step, squares + (item - mean) * (item - mean - step))

    def encode(self, value: Any) -> tuple[Float[Tensor, " d"], Bool[Tensor, " d"]]:
        """Convert a validated row: its elements, 0 where a value is missing, and False at these elements."""
        elements: list[float] = []
        known: list[bool] = []
        for column, item in zip(self._columns, value, strict=True):  # plain Python: fast for one row
            elements += [float(item == each) for each in column.classes] or [item or 0.0]
            known += [item is not None] * column.width
        return torch.tensor(elements), torch.tensor(known)

    def __call__(self, value: Any) -> Float[Tensor, " d"]:
        """Return the elements of a validated row."""
        return self.encode(value)[0]
