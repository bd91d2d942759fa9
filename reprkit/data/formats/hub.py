"""Data sets of the Hugging Face hub, and local files that its library ``datasets`` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.collation import collate, to_index
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.arrow_rows import rows_of
from reprkit.data.formats.columns import HEAD, Columns
from reprkit.data.formats.images import MEMORY
from reprkit.data.formats.media_readers import Size
from reprkit.data.formats.tables import choose_part, iter_rows, open_tables, short_name, without_decoding
from reprkit.data.formats.tensors import Tensors
from reprkit.data.signature import Column
from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count, Share

_VALID = ("validation", "valid", "val", "dev")


class Hub(Dataset):
    """Data set of the Hugging Face hub, or local files that its library ``datasets`` reads.

    A folder or file may hold Parquet, CSV, JSON, images or audio in the layouts that ``datasets`` knows, or the output of its
    ``save_to_disk``.  The feature of a column decides its field:

    =====================================  ==============================================================
    column                                 field
    =====================================  ==============================================================
    Image                                  image (h w c) in [0, 1], of ``size``
    Audio                                  sequence (t 1), at ``rate``, of varying length
    ClassLabel; integer or boolean; any    label
    column for the field ``label``
    string                                 tokens (t,), its UTF-8 bytes, of varying length
    list of numbers                        vector (d,), all of one length
    list of lists of numbers               sequence (t c), of varying length
    a float                                vector (d,)
    several columns                        vector (d,), a table's row, see below
    =====================================  ==============================================================

    The signature of a table keeps the names of its columns, mean and standard deviation of its numbers (over all rows), and the
    classes of its categories (texts, booleans, ClassLabels, and the columns in ``categories``), which are one-hot.  A missing value
    of a table does not skip the row: it is False in ``NAME_mask``.

    Every row is read and decoded once when the data set is constructed.  Other rows with a missing, empty or unreadable value are
    skipped, counted and named.  Decoded rows stay in memory up to 1 GiB; beyond that rows are decoded again for each batch.

    Where there are a train and a test part, the data set holds both, and ``split`` keeps them: it returns the official test part,
    whatever ``seed`` and ``test_share``.  An official validation part is returned for ``valid=True``, and else belongs to train.
    With ``part``, or without a test part, the data set holds one part and ``split`` divides it, at random or
    by ``group``.

    Args:
        path: a folder, a file, a name on the hub (``"user/name"``), or an object of ``datasets``.
        name: configuration, where there are several.
        part: "train", "test" or another; by default those that ``split`` returns, or "train", or the only one.
        columns: field -> column, or a list of columns, a table, each a name or an ``rk.Column`` with its mean and standard
            deviation or classes; by default the column "label" (or the only ClassLabel) is
            ``label``, and ``x`` the only other one.
        categories: columns of a table that hold numbers of classes.
        group: a column whose rows of equal value stay in one part of ``split`` where that divides, such as the patient or the row's
            key.  A hash of the value decides the part, so that it stays when rows are added.
        size: (h, w) of images, (h, w, 1) for grayscale, or one number for both sides.
        rate: sampling rate of audio, in Hz.
        max_corrupt: largest share of unreadable rows that may be skipped; more is an error.

    Raises:
        DataError: nothing of that name, no network, no such part or column, an unsupported column, or too many unreadable
            rows.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Any,
        name: str | None = None,
        *,
        part: str | None = None,
        columns: Mapping[str, str | Sequence[str | Column]] | None = None,
        categories: Sequence[str] = (),
        group: str | None = None,
        size: Size = None,
        rate: Count = 16000,
        max_corrupt: Share = 0.01,
    ) -> None:
        corrupt = CorruptFiles("rows", max_corrupt)
        self._name = short_name(path)
        table = self._concatenate(open_tables(path, name), part)
        self._columns = Columns(
            table.features,
            list(table.select(range(min(HEAD, len(table))))),
            columns,
            size,
            rate,
            self._name,
            categories,
        )
        self._table = table.select_columns(self._columns.columns).with_format("arrow")
        self._rows, self._lengths = torch.empty(0, dtype=torch.int64), dict[str, Tensor]()
        self._decoded: Tensors | list[dict[str, Tensor]] | None = None
        self._read_rows(corrupt)
        if not len(table):
            raise DataError(f"{self._name} holds no rows")
        corrupt.check_share(len(table), self._name)
        self._groups = None if group is None else self._read_groups(table, group)
        self._columns.number_classes()
        self.signature = self._columns.signature()
        self.facts: dict[str, Any] = {"parts": list(self._ends), **self._columns.facts(), **corrupt.facts()}
        self._finish_rows()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one row; a negative index counts from the end.

        Raises:
            DataError: a row that was readable when the data set was constructed no longer is.
        """
        position = range(len(self))[index]
        if isinstance(self._decoded, Tensors):
            return self._decoded[position]
        if self._decoded is not None:
            return self._columns.to_batch_dtype(self._decoded[position])
        number = int(self._rows[position])
        try:
            (row,) = rows_of(self._table[number : number + 1])
            return self._columns.example(row)
        except Exception as error:
            raise DataError(
                f"row {number} of {self.name} was readable when the data set was constructed, and no longer is: {error}"
            ) from error

    def batch(self, indices: Tensor | Any) -> dict[str, Tensor]:
        """Return the rows at ``indices`` (b,)."""
        if isinstance(self._decoded, Tensors):
            return self._decoded.batch(indices)
        return collate([self[index] for index in to_index(indices).tolist()], self.signature)

    def lengths(self) -> dict[str, Tensor]:
        """Return the length of every row, for the fields whose length varies."""
        return self._lengths

    @property
    def name(self) -> str:
        """Name on the hub, or of the file."""
        return self._name

    def identities(self) -> list[str] | None:
        """Return the value of ``group`` in each row; None without it."""
        return self._groups

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split into the official parts where they exist, see above; else at random.

        Raises:
            DataError: see ``Dataset.split``; an official part without readable rows.
        """
        if len(self._ends) == 1:
            return super().split(seed, valid=valid, test_share=test_share, valid_share=valid_share)
        bounds = [0, *torch.searchsorted(self._rows, torch.tensor(list(self._ends.values()))).tolist()]
        official = {part: torch.arange(*bounds[i : i + 2]) for i, part in enumerate(self._ends)}
        official_valid = next((part for part in official if part in _VALID), None)
        if valid and official_valid is None:
            train, held_out = self.subset(official["train"], part="train").split(seed, test_share=valid_share)
            parts = {"train": train.indices, "valid": held_out.indices}  # type: ignore[attr-defined]
        elif valid:
            parts = {"train": official["train"], "valid": official[str(official_valid)]}
        else:
            parts = {"train": torch.cat([rows for part, rows in official.items() if part != "test"])}
        subsets = tuple(
            self.subset(index, part=part) for part, index in {**parts, "test": official["test"]}.items()
        )
        for subset in subsets:
            subset.origin.update({"official": True})
        return subsets

    def _concatenate(self, parts: Mapping[str, Any], part: str | None) -> Any:
        """Return the table of one part, or of all parts that ``split`` returns, concatenated; record where each ends."""
        import datasets

        names = [choose_part(parts, part, self._name)]
        if part is None and {"train", "test"} <= set(parts):
            names += [*[name for name in _VALID if name in parts][:1], "test"]
        tables = [without_decoding(parts[name]) for name in names]
        self._ends = dict(zip(names, np.cumsum([len(table) for table in tables]).tolist(), strict=True))
        try:
            return datasets.concatenate_datasets(tables)
        except Exception as error:
            raise DataError(
                f"the parts {', '.join(names)} of {self._name} have different columns and cannot be concatenated: choose one "
                f"with part=\n  ({str(error).splitlines()[0][:200]})"
            ) from error

    def _read_rows(self, corrupt: CorruptFiles) -> None:
        """Read all rows: record which are readable and how long they are, and keep the decoded rows while memory allows."""
        decoded: list[dict[str, Tensor]] | None = []
        memory, numbers, lengths = MEMORY, list[int](), dict[str, list[int]]()
        rows = (_Row(number, row) for number, row in enumerate(iter_rows(self._table)))
        for row, example in corrupt.iter_readable(rows, lambda row: self._columns.read_row(row.values)):
            self._columns.observe(row.values)
            numbers.append(row.number)
            for name, value in example.items():
                lengths.setdefault(name, []).append(len(value) if value.ndim else 1)
            memory -= sum(value.numel() * value.element_size() for value in example.values())
            if decoded is not None and memory >= 0:
                decoded.append(example)
            else:
                decoded = None
        self._rows, self._decoded = torch.tensor(numbers, dtype=torch.int64), decoded
        self._lengths = {name: torch.tensor(values) for name, values in lengths.items()}

    def _read_groups(self, table: Any, group: str) -> list[str]:
        """Return the value of the column in each readable row.

        Raises:
            DataError: no such column, or a row without a value.
        """
        if group not in table.column_names:
            raise DataError(
                f"{self._name} has no column {group!r} for group=.{nearest(group, table.column_names)}\n"
                f"  the columns are: {', '.join(table.column_names)}"
            )
        values = list(table.select_columns([group])[group])
        chosen = [values[number] for number in self._rows.tolist()]
        if missing := sum(value is None for value in chosen):
            raise DataError(f"{missing} rows of {self._name} have no {group!r}, the column of group=")
        return [str(value) for value in chosen]

    def _finish_rows(self) -> None:
        """Keep the lengths of varying fields, add labels whose classes are known now, and stack fields of fixed shape."""
        varying = self.signature.varying_fields()
        self._lengths = {name: self._lengths[name] for name in varying}
        if not isinstance(self._decoded, list):
            return
        if any(name not in self._decoded[0] for name in self.signature):
            table = self._table.select_columns(self._columns.class_columns)
            readable = set(self._rows.tolist())
            rows = (row for number, row in enumerate(iter_rows(table)) if number in readable)
            for row, example in zip(rows, self._decoded, strict=True):
                example.update(self._columns.with_classes(row))
        for example in self._decoded:
            for name in self._columns.complete_tables:
                example.pop(f"{name}_mask", None)
        if not varying:
            names = [*self.signature, *(n for n in self._decoded[0] if n.removesuffix("_mask") != n)]
            values = {name: torch.stack([example[name] for example in self._decoded]) for name in names}
            self._decoded = Tensors(values, self.signature, divisors=self._columns.divisors, name=self._name)


class _Row:
    """A row and its number, which names it where it is skipped."""

    def __init__(self, number: int, values: dict[str, Any]) -> None:
        self.number, self.values = number, values

    def __str__(self) -> str:
        return f"row {self.number}"
