"""Data sets of the Hugging Face hub, and local files that its library reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.collate import collate, to_index
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.columns import HEAD, Columns
from reprkit.data.formats.images import MEMORY
from reprkit.data.formats.media_readers import Size
from reprkit.data.formats.tables import choose_part, iter_rows, open_tables, short_name, without_decoding
from reprkit.data.formats.tensors import Tensors
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Share

_VALID = ("validation", "valid", "val", "dev")


class Hub(Dataset):
    """A data set of the Hugging Face hub, or local files that its library ``datasets`` reads.

    A folder or file may hold Parquet, CSV, JSON, pictures or sounds in the layouts that ``datasets`` knows, or what its
    ``save_to_disk`` wrote.  What a column becomes is decided by its feature:

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
    a float, or several numeric columns    vector (d,)
    =====================================  ==============================================================

    Every row is read and decoded once when the set is made.  Rows with a value that is missing, empty or unreadable are left
    out, counted and named.  Up to 1 GiB of what came out stays in memory; beyond that rows are decoded again for each batch.

    Where there is a train and a test part the set is both of them, and ``split`` keeps them: it gives the official test part,
    whatever ``seed`` and ``test_share``.  An official validation part is given when one is asked for, and else belongs to train.
    With ``part``, or where there is no test part, the set is one part and ``split`` divides it at random.

    Args:
        path: a folder, a file, or a name on the hub (``"user/name"``).
        name: which configuration, where there are several.
        part: "train", "test" or another; by default those that ``split`` gives, or "train", or the only one.
        columns: field -> column, or a list of numeric columns; by default the column "label" (or the only ClassLabel) is
            ``label``, and ``x`` the only other one.
        size: (h, w) of pictures, (h, w, 1) for grey, or one number for both sides.
        rate: of sounds, in Hz.
        max_corrupt: the largest share of unreadable rows that is left out; more is an error.

    Raises:
        DataError: nothing of that name, no network, no such part or column, a column that can be no field, or too many
            unreadable rows.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        *,
        part: str | None = None,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        size: Size = None,
        rate: Count = 16000,
        max_corrupt: Share = 0.01,
    ) -> None:
        corrupt = CorruptFiles("rows", max_corrupt)
        self._name = short_name(path)
        table = self._joined(open_tables(path, name), part)
        self._columns = Columns(
            table.features, list(table.select(range(min(HEAD, len(table))))), columns, size, rate, self._name
        )
        self._table = table.select_columns(self._columns.columns)
        self._places, self._lengths = torch.empty(0, dtype=torch.int64), dict[str, Tensor]()
        self._held: Tensors | list[dict[str, Tensor]] | None = None
        self._vet(corrupt)
        if not len(table):
            raise DataError(f"{self._name} holds no rows")
        corrupt.check_share(len(table), self._name)
        self._columns.number_classes()
        self.signature = self._columns.signature()
        self.facts: dict[str, Any] = {"parts": list(self._ends), **self._columns.facts(), **corrupt.facts()}
        self._settle()

    def __len__(self) -> int:
        """How many rows."""
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One row; a negative index counts from the end.

        Raises:
            DataError: what was readable when the set was made no longer is.
        """
        place = range(len(self))[index]
        if isinstance(self._held, Tensors):
            return self._held[place]
        if self._held is not None:
            return self._columns.to_batch_dtype(self._held[place])
        number = int(self._places[place])
        try:
            return self._columns.example(self._table[number])
        except Exception as error:
            raise DataError(
                f"row {number} of {self.name} could be read when the data set was made, and now cannot: {error}"
            ) from error

    def batch(self, indices: Tensor | Any) -> dict[str, Tensor]:
        """The rows of these indices (b,)."""
        if isinstance(self._held, Tensors):
            return self._held.batch(indices)
        return collate([self[index] for index in to_index(indices).tolist()], self.signature)

    def lengths(self) -> dict[str, Tensor]:
        """Of every row, for the fields whose length varies."""
        return self._lengths

    @property
    def name(self) -> str:
        """The hub's, or the file's."""
        return self._name

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """The official parts where there are such, see above; else at random.

        Raises:
            DataError: see ``Dataset.split``; an official part of which no row can be read.
        """
        if len(self._ends) == 1:
            return super().split(seed, valid=valid, test_share=test_share, valid_share=valid_share)
        bounds = [0, *torch.searchsorted(self._places, torch.tensor(list(self._ends.values()))).tolist()]
        found = {part: torch.arange(*bounds[i : i + 2]) for i, part in enumerate(self._ends)}
        known = next((part for part in found if part in _VALID), None)
        if valid and known is None:
            train, held = self.subset(found["train"], part="train").split(seed, test_share=valid_share)
            parts = {"train": train.indices, "valid": held.indices}  # type: ignore[attr-defined]
        elif valid:
            parts = {"train": found["train"], "valid": found[str(known)]}
        else:
            parts = {"train": torch.cat([each for part, each in found.items() if part != "test"])}
        made = tuple(
            self.subset(index, part=part) for part, index in {**parts, "test": found["test"]}.items()
        )
        for each in made:
            each.origin.update({"official": True})
        return made

    def _joined(self, parts: Mapping[str, Any], part: str | None) -> Any:
        """The table of one part, or of all that ``split`` gives, one after another; notes where each ends."""
        import datasets

        wanted = [choose_part(parts, part, self._name)]
        if part is None and {"train", "test"} <= set(parts):
            wanted += [*[each for each in _VALID if each in parts][:1], "test"]
        tables = [without_decoding(parts[each]) for each in wanted]
        self._ends = dict(zip(wanted, np.cumsum([len(each) for each in tables]).tolist(), strict=True))
        try:
            return datasets.concatenate_datasets(tables)
        except Exception as error:
            raise DataError(
                f"the parts {', '.join(wanted)} of {self._name} have different columns, so they cannot be one set: take one "
                f"with part=\n  ({str(error).splitlines()[0][:200]})"
            ) from error

    def _vet(self, corrupt: CorruptFiles) -> None:
        """Read all rows: which can be, how long they are, and what they give while there is room for it."""
        held: list[dict[str, Tensor]] | None = []
        room, places, lengths = MEMORY, list[int](), dict[str, list[int]]()
        numbered = (_Row(number, row) for number, row in enumerate(iter_rows(self._table)))
        for row, made in corrupt.iter_readable(numbered, lambda each: self._columns.read_row(each.values)):
            self._columns.observe(row.values)
            places.append(row.number)
            for name, value in made.items():
                lengths.setdefault(name, []).append(len(value) if value.ndim else 1)
            room -= sum(value.numel() * value.element_size() for value in made.values())
            if held is not None and room >= 0:
                held.append(made)
            else:
                held = None
        self._places, self._held = torch.tensor(places, dtype=torch.int64), held
        self._lengths = {name: torch.tensor(each) for name, each in lengths.items()}

    def _settle(self) -> None:
        """Keep lengths of what varies; add labels that were not known before; stack what has one shape."""
        varies = [name for name, field in self.signature.items() if None in field.shape]
        self._lengths = {name: self._lengths[name] for name in varies}
        if not isinstance(self._held, list):
            return
        if any(name not in self._held[0] for name in self.signature):
            table = self._table.select_columns(self._columns.label_columns)
            kept = set(self._places.tolist())
            rows = (row for number, row in enumerate(iter_rows(table)) if number in kept)
            for row, made in zip(rows, self._held, strict=True):
                made.update(self._columns.labels(row))
        if not varies:
            values = {name: torch.stack([made[name] for made in self._held]) for name in self.signature}
            self._held = Tensors(values, self.signature, divisors=self._columns.divisors, name=self._name)


class _Row:
    """A row and its number, by which it is named where it is left out."""

    def __init__(self, number: int, values: dict[str, Any]) -> None:
        self.number, self.values = number, values

    def __str__(self) -> str:
        return f"row {self.number}"
