"""Streaming data sets of the Hugging Face hub or of local files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from reprkit.data.formats.columns import HEAD, Columns
from reprkit.data.formats.media_readers import Size
from reprkit.data.formats.table_shards import check_files, table_shards
from reprkit.data.formats.tables import choose_part, open_tables, short_name, without_decoding
from reprkit.data.loading.shards import Shards
from reprkit.data.signature import Column
from reprkit.data.streams import Stream
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Share


class HubStream(Stream):
    """Data set that is read during training, without being downloaded or converted first.

    Columns become fields as in ``hub``.  Only the first rows are read in advance: so a label needs a ClassLabel column, and the
    width of lists of numbers is that of most of the first 100 rows.  Without random access the order is that of a shuffle buffer,
    see ``reprkit.data.Stream``: for data sorted by class use a ``buffer`` larger than a class.

    Of Parquet files and Arrow tables every process reads its own row groups only, and a resumed run starts at the row groups that
    it had reached.  Other sources do not state their numbers of rows: every process reads all rows and decodes its own, and a
    resumed run reads over those that its epoch used before.  ``describe()["reading"]`` says which it is.

    Args:
        path: a folder, a file, a name on the hub (``"user/name"``), or an object of ``datasets``.
        name: configuration, where there are several.
        part: "train", "test" or another; by default "train", or the only one.
        columns: field -> column, or a list of numeric columns; or a table: a list of ``rk.Column``, with mean and standard
            deviation of each number and the classes of each category; by default the column "label" (or the only ClassLabel) is
            ``label``, and ``x`` the only other one.
        size: (h, w) of images, (h, w, 1) for grayscale, or one number for both sides.
        rate: sampling rate of audio, in Hz.
        buffer: size of the shuffle buffer in rows, which are held in memory as they are stored.
        readers: row groups that are read at a time, over all processes.
        max_corrupt: largest share of unreadable rows that may be skipped, of at least 1,000; more is an error.

    Raises:
        DataError: nothing of that name, no network, no such part or column, no rows, an unsupported column, or a label whose
            classes are unknown.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Any,
        name: str | None = None,
        *,
        part: str | None = None,
        columns: Mapping[str, str | Sequence[str | Column]] | None = None,
        size: Size = None,
        rate: Count = 16000,
        buffer: Count = 1000,
        readers: Count = 8,
        max_corrupt: Share = 0.01,
    ) -> None:
        parts = open_tables(path, name, streaming=True)
        chosen = choose_part(parts, part, short_name(path))
        self._name = f"{short_name(path)} ({chosen})"
        table, head = _read_head(parts[chosen], self._name)
        self._columns = Columns(table.features, head, columns, size, rate, self._name, stream=True)
        if self._columns.labels_without_classes:
            field = self._columns.labels_without_classes[0]
            raise DataError(
                f"{self._name}: a stream cannot know in advance which classes field {field!r} has\n"
                "  make its column a ClassLabel in the files, leave the field out with columns=, or read the data with hub(...)"
            )
        self._table = table.select_columns(self._columns.columns)
        self._shards = table_shards(table, self._columns.columns)
        self.buffer, self.readers, self.max_corrupt = buffer, readers, max_corrupt
        self.signature, self.facts = self._columns.signature(), self._columns.facts()

    def shards(self) -> Shards | None:
        """Return the row groups of Parquet files or the parts of an Arrow table; None for other sources."""
        return self._shards

    def read(self) -> Iterator[Mapping[str, Any]]:
        """Yield the rows, with images and audio as encoded files."""
        return iter(self._table)

    def decode(self, record: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the fields of a row."""
        return self._columns.example(record)

    @property
    def name(self) -> str:
        """Name on the hub, or of the file, and of the part."""
        return self._name


def _read_head(table: Any, where: str) -> tuple[Any, list[dict[str, Any]]]:
    """Return the table with known features, and its first rows."""
    import datasets

    try:
        if table.features is None:  # some formats define features only by their rows
            rows = list(itertools.islice(table, HEAD))
            table = table.cast(datasets.Dataset.from_list(rows).features) if rows else table
        table = without_decoding(table)
        head = list(itertools.islice(table, HEAD))
    except Exception as error:
        check_files(table)
        raise DataError(
            f"the first rows of {where} cannot be read: {type(error).__name__}: {error}"
        ) from error
    if not head:
        raise DataError(f"{where} is empty: it has no rows")
    return table, head
