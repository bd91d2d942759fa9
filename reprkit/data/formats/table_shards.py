"""Shards of a streamed table of Hugging Face ``datasets``: row groups of Parquet files, or parts of a table in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import compress
from typing import Any

import numpy as np

from reprkit.data.formats.arrow_rows import rows_of
from reprkit.data.loading.shards import Numbers, Shards, starts_of
from reprkit.errors import DataError

_ROWS = 64  # that are converted at a time
_SAME_ROWS = ("ArrowExamplesIterable", "SelectColumnsIterable", "RebatchedArrowExamplesIterable")


class TableShards(Shards):
    """Shards of an ``IterableDataset``, each read from its start by ``datasets``.

    Args:
        table: with as many shards as there are sizes.
        sizes: number of rows of each shard (s,).
    """

    whole = True

    def __init__(self, table: Any, sizes: Numbers) -> None:
        self._table, self.sizes, self.starts = table, sizes, starts_of(sizes)

    def read(self, shard: int, numbers: Numbers) -> Iterator[Mapping[str, Any]]:
        """Yield the rows with these numbers, ascending; lists of numbers as arrays, see ``rows_of``."""
        table, place = self._table.shard(num_shards=len(self.sizes), index=shard), 0
        for piece in table.with_format("arrow").iter(batch_size=_ROWS):
            first, end = np.searchsorted(numbers, (place, place + len(piece)))
            if first < end:
                wanted = numbers[first:end] - place
                rows = rows_of(piece.slice(wanted[0], wanted[-1] + 1 - wanted[0]))
                yield from compress(rows, np.isin(np.arange(wanted[0], wanted[-1] + 1), wanted))
            place += len(piece)
            if end == len(numbers):
                return


def table_shards(table: Any, columns: list[str]) -> TableShards | None:
    """Return the shards of a streamed table; None where their numbers of rows are not known without reading them.

    They are known for Parquet files, which state them (a shard is a row group), and for tables in memory or on disk as Arrow.
    Operations of ``datasets`` that add or drop rows (``filter``, ``skip``, ``shuffle`` and so on) hide them.

    Raises:
        DataError: a Parquet file without a valid footer.
    """
    source = _source(table)
    if source is None:
        return None
    if set(source.kwargs) == {"files", "row_groups_list"}:  # of Parquet: a shard is a file or a row group
        table = _by_row_group(table)
        arguments = _source(table).kwargs
        sizes = _row_group_sizes(list(arguments["files"]), list(arguments["row_groups_list"]))
    elif isinstance(source.kwargs.get("shards"), list):
        sizes = [len(part) for part in source.kwargs["shards"]]
    else:
        return None
    if len(sizes) != table.num_shards:
        return None
    return TableShards(table.select_columns(columns), np.array(sizes, np.int64))


def _source(table: Any) -> Any:
    """Return what yields the rows of a table, of which each is one of the files'; None where something else does."""
    # datasets has no public way to the rows of a shard: what is not known here is read from the start, as any other stream.
    source: Any = getattr(table, "_ex_iterable", None)
    while type(source).__name__ in _SAME_ROWS and hasattr(source, "ex_iterable"):
        source = source.ex_iterable
    known = type(source).__name__ == "ArrowExamplesIterable" and getattr(table, "_distributed", None) is None
    return source if known else None


def check_files(table: Any) -> None:
    """Check that the Parquet files of a streamed table have footers.

    Raises:
        DataError: one has not; names it.
    """
    source = _source(table)
    if source is not None and set(source.kwargs) == {"files", "row_groups_list"}:
        _row_group_sizes(list(source.kwargs["files"]), list(source.kwargs["row_groups_list"]))


def _by_row_group(table: Any) -> Any:
    """Return the table with a shard for each row group, where the installed version of ``datasets`` can."""
    if not hasattr(table, "reshard"):
        return table
    try:
        return table.reshard()
    except Exception as error:
        check_files(table)
        raise DataError(f"the Parquet files cannot be read: {type(error).__name__}: {error}") from error


def _row_group_sizes(files: list[str], groups: list[Any]) -> list[int]:
    """Return the number of rows of each entry: of some row groups of a file, or of all (None)."""
    import fsspec
    import pyarrow.parquet

    rows: dict[str, list[int]] = {}
    for file in dict.fromkeys(files):
        try:
            with fsspec.open(file, "rb") as opened:
                footer = pyarrow.parquet.ParquetFile(opened).metadata
        except Exception as error:
            raise DataError(f"{file} is no readable Parquet file: {type(error).__name__}: {error}") from error
        rows[file] = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    return [
        sum(rows[file] if chosen is None else (rows[file][number] for number in chosen))
        for file, chosen in zip(files, groups, strict=True)
    ]
