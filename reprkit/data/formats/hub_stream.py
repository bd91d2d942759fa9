"""Data sets of the Hugging Face hub, and local files, as streams."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from reprkit.data.formats.columns import HEAD, Columns
from reprkit.data.formats.media_readers import Size
from reprkit.data.formats.tables import choose_part, open_tables, short_name, without_decoding
from reprkit.data.streams import Stream
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Share


class HubStream(Stream):
    """A data set that is read as it is trained on, without being fetched or converted first.

    Columns become fields as ``hub`` says.  As only the first rows are seen beforehand, a label needs a ClassLabel column; lists of
    numbers are as wide as most of the first 100.  Without random access the order is that of a shuffle buffer, see
    ``reprkit.data.Stream``: for data sorted by class take a ``buffer`` larger than a class.

    Args:
        path: a folder, a file, or a name on the hub (``"user/name"``).
        name: which configuration, where there are several.
        part: "train", "test" or another; by default "train", or the only one.
        columns: field -> column, or a list of numeric columns; by default the column "label" (or the only ClassLabel) is
            ``label``, and ``x`` the only other one.
        size: (h, w) of pictures, (h, w, 1) for grey, or one number for both sides.
        rate: of sounds, in Hz.
        buffer: rows that are shuffled together, and held in memory as they are stored.
        max_corrupt: the largest share of unreadable rows that is left out, of at least 1,000; more is an error.

    Raises:
        DataError: nothing of that name, no network, no such part or column, no rows, a column that can be no field, or a label
            whose classes nobody states.
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
        buffer: Count = 1000,
        max_corrupt: Share = 0.01,
    ) -> None:
        parts = open_tables(path, name, streaming=True)
        own = choose_part(parts, part, str(path))
        self._name = f"{title(path)} ({own})"
        table, head = _looked_at(parts[own], self._name)
        self._columns = Columns(table.features, head, columns, size, rate, self._name)
        if self._columns.labels_without_classes:
            field = self._columns.labels_without_classes[0]
            raise DataError(
                f"{self._name}: a stream cannot know beforehand which classes field {field!r} has\n"
                "  make its column a ClassLabel in the files, leave the field out with columns=, or read the data as hub(...)"
            )
        self._table = table.select_columns(self._columns.columns)
        self.buffer, self.max_corrupt = buffer, max_corrupt
        self.signature, self.facts = self._columns.signature(), self._columns.facts()

    def read(self) -> Iterator[Mapping[str, Any]]:
        """The rows, with pictures and sounds as files."""
        return iter(self._table)

    def decode(self, record: Mapping[str, Any]) -> dict[str, Tensor]:
        """The fields of a row."""
        return self._columns.example(record)

    @property
    def name(self) -> str:
        """The hub's, or the file's, and the part."""
        return self._name


def _looked_at(table: Any, where: str) -> tuple[Any, list[dict[str, Any]]]:
    """The table with its features known, and its first rows."""
    import datasets

    try:
        if table.features is None:  # some formats tell only by their rows
            rows = list(itertools.islice(table, HEAD))
            table = table.cast(datasets.Dataset.from_list(rows).features) if rows else table
        table = without_decoding(table)
        head = list(itertools.islice(table, HEAD))
    except Exception as error:
        raise DataError(
            f"the first rows of {where} cannot be read: {type(error).__name__}: {error}"
        ) from error
    if not head:
        raise DataError(f"{where} is empty: it has no rows")
    return table, head
