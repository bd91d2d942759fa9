"""JSON Lines files: one record per line, with texts, numbers and labels."""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.table_columns import column_names
from reprkit.data.formats.table_reader import TableReader, check_categories
from reprkit.data.formats.text_files import TextFiles
from reprkit.data.formats.value_readers import (
    LabelReader,
    RecordKind,
    ValueReader,
    class_facts,
    make_reader,
    type_name,
)
from reprkit.data.identity import content_hash, hash_names
from reprkit.data.signature import Column, Signature
from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count, Share

SUFFIXES = frozenset((".jsonl", ".ndjson"))
_HEAD = 100  # first records, whose majority decides what is not declared


class JsonLines(Dataset):
    """Records of a JSON Lines file, or of all .jsonl and .ndjson files below a folder: one JSON object per line.

    What is not declared is inferred; where records differ, the majority of the first 100 decides:

    =====================================  ==============================================================
    value                                  field
    =====================================  ==============================================================
    string                                 tokens (t,), its UTF-8 bytes, vocab 256, of varying length
    list of numbers                        vector (d,), all of one length
    list of lists of numbers               sequence (t c), of varying length
    integer, boolean, or named "label"     label, numbered in the sorted order of its values
    =====================================  ==============================================================

    Lists of integers are symbols with ``kinds={"x": "tokens"}`` (vocab = largest + 1), and strings are labels
    with "label".  ``describe`` lists the values of a label, in order, as ``classes`` (``NAME_classes`` for a
    field of another name than "label").

    A line that is no JSON object, lacks a field, or has a field of another type or size is skipped, counted and
    named.  Files are not kept in memory, only 24 bytes per line.  ``split`` divides by a hash of each line, or of ``group``: a
    record stays in its part when others are added.

    Args:
        path: a file (any suffix), or a folder of .jsonl and .ndjson files at any depth.
        fields: field -> its name in the records; only these are read then.  Several names are the columns of a table, each a
            name or an ``rk.Column``: one vector with names, means and standard deviations of its numbers, and one-hot categories
            (texts and booleans); a value that is null or absent is missing (``NAME_mask``).  By default ``x`` is "x", or
            "text", or the only name besides "label"; and "label" is read where there is one.
        categories: columns of a table that hold numbers of classes.
        kinds: field -> "tokens", "vector", "sequence" or "label".
        classes: field -> values of a label, where they must not depend on the file (a test file may lack
            some); a record with another value is skipped.
        vocabs: field -> number of symbols of lists of integers, for the same reason.
        group: name in the records: those of equal value stay in one part of ``split``, such as "patient".  By default equal lines
            do.
        length: maximum number of tokens or steps of fields of varying length; the rest is cut off.  None: all.
        encoding: of files without a byte-order mark; UTF-8 by default.
        max_corrupt: largest share of corrupt records that may be skipped; more is an error.

    Raises:
        DataError: no such file, no records, no field that could be ``x``, or too many corrupt records.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fields: Mapping[str, str | Sequence[str | Column]] | None = None,
        *,
        categories: Sequence[str] = (),
        kinds: Mapping[str, RecordKind] | None = None,
        classes: Mapping[str, Iterable[Any]] | None = None,
        vocabs: Mapping[str, Count] | None = None,
        group: str | None = None,
        length: Count | None = None,
        encoding: str | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        corrupt = CorruptFiles("records", max_corrupt)
        self._files = TextFiles(path, SUFFIXES, "JSON Lines files", encoding)
        lines = self._files.head(_HEAD)
        if not lines:
            raise DataError(f"{str(self._files.path)!r} holds no records: it is empty")
        head = _parse_readable(lines)
        if not head:
            raise DataError(
                f"none of the first lines of {str(self._files.path)!r} is a JSON object\n"
                '  expected is one record per line, such as {"text": "...", "label": "..."}'
            )
        self._fields = _choose_fields(fields, head)
        options = {"kinds": kinds or {}, "classes": classes or {}, "vocabs": vocabs or {}}
        for option, values in options.items():
            for name in values:
                if name not in self._fields:
                    raise DataError(
                        f"{option}: there is no field {name!r}.{nearest(name, self._fields)}\n"
                        f"  the fields are: {', '.join(self._fields)}"
                    )
        self._readers: dict[str, ValueReader] = {}
        for name, key in self._fields.items():
            if not isinstance(key, str):
                if any(name in values for values in options.values()):
                    raise DataError(
                        f"field {name!r} is a table: kinds, classes and vocabs are for other fields; use rk.Column"
                    )
                self._readers[name] = _table_reader(key, head, categories)
                self._fields[name] = column_names(key)
                continue
            self._readers[name] = make_reader(
                name,
                [record[key] for record in head if key in record],
                kind=(kinds or {}).get(name),
                length=length,
                classes=list(classes[name]) if classes and name in classes else None,
                vocab=(vocabs or {}).get(name),
            )
        self._group, self._hashes = group, array("q")
        if group is not None and not any(group in record for record in head):
            names = sorted({name for record in head for name in record})
            raise DataError(
                f"no record has {group!r}, the name of group=.{nearest(group, names)}\n  known: {', '.join(names[:30])}"
            )
        check_categories(categories, self._readers.values())
        self._lengths = {
            name: array("q")
            for name, reader in self._readers.items()
            if not isinstance(reader, TableReader) and None in reader.field().shape
        }
        self._files.index(self._index_line, corrupt)
        labels = {n: reader for n, reader in self._readers.items() if isinstance(reader, LabelReader)}
        numbered = {name: reader.number_classes() for name, reader in labels.items()}
        for reader in self._readers.values():
            if isinstance(reader, TableReader):
                reader.finish()
        self.facts: dict[str, Any] = {
            **corrupt.facts(),
            **self._files.facts(),
            **class_facts(numbered),
        }
        self.signature = Signature({name: reader.field() for name, reader in self._readers.items()})

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one record's fields; a negative index counts from the end."""
        record = self.record(index)
        example: dict[str, Tensor] = {}
        for name, reader in self._readers.items():
            if isinstance(reader, TableReader):
                row = reader.validate([record.get(key) for key in self._fields[name]])
                example[name], known = reader.encode(row)
                example |= {f"{name}_mask": known} if reader.missing else {}
            else:
                example[name] = reader(record[self._fields[name]])
        return example

    def lengths(self) -> dict[str, Tensor]:
        """Return the number of steps or symbols of every record (n,), for each field whose length varies."""
        return {name: torch.tensor(counts) for name, counts in self._lengths.items()}

    def identities(self) -> list[str]:
        """Return a hash of each record, or of its value of ``group``."""
        return hash_names(self._hashes)

    def record(self, index: int) -> dict[str, Any]:
        """Return the whole record, as it is in the file."""
        return dict(json.loads(self._files[index]))

    @property
    def name(self) -> str:
        """Name of the file or folder."""
        return self._files.name

    def _index_line(self, line: bytes) -> None:
        """Validate a line's record, and take account of it only if all of its fields are valid."""
        record = _parse_object(line)
        if self._group is not None and self._group not in record:
            raise DataError(f"it has no {self._group!r}, the name of group=")
        values = []
        for name, reader in self._readers.items():
            key = self._fields[name]
            if isinstance(key, str) and key not in record:
                raise DataError(f"it has no {key!r}")
            try:
                raw = record[key] if isinstance(key, str) else [record.get(column) for column in key]
                values.append((name, reader, reader.validate(raw)))
            except DataError as error:
                raise DataError(f"{key!r} {error}") from error
        for name, reader, value in values:
            reader.observe(value)
            if name in self._lengths:
                self._lengths[name].append(reader.size(value))
        same = line if self._group is None else json.dumps(record[self._group], sort_keys=True).encode()
        self._hashes.append(content_hash(same))


def _parse_object(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"no JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"it is {type_name(record)}, not an object")
    return record


def _parse_readable(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    records = []
    for line in lines:
        try:
            records.append(_parse_object(line))
        except DataError:
            continue  # reported when all lines are indexed
    return records


def _table_reader(
    columns: Sequence[str | Column], head: list[dict[str, Any]], categories: Sequence[str]
) -> TableReader:
    """Create the reader of a table's columns; those whose first values are mostly texts or booleans are categories."""
    names = column_names(columns)
    found = [column for column in categories if column in names]
    for column in names:
        values = [record[column] for record in head if record.get(column) is not None]
        if 2 * sum(isinstance(value, str | bool) for value in values) > len(values):
            found.append(column)
    return TableReader(names, found, {}, {c.name: c for c in columns if isinstance(c, Column)})


def _choose_fields(
    fields: Mapping[str, str | Sequence[str | Column]] | None, head: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the fields to read: field -> its name in the records, or the columns of a table."""
    counts = Counter(name for record in head for name in record)
    for name, columns in (fields or {}).items():
        for key in column_names(columns):
            if key not in counts:
                raise DataError(
                    f"fields: the first records have no {key!r} for field {name!r}.{nearest(key, counts)}\n"
                    f"  they have: {', '.join(counts) or 'nothing'}"
                )
    if fields:
        return dict(fields)
    usual = [name for name, count in counts.items() if 2 * count > len(head)]
    others = [name for name in usual if name != "label"]
    source = next((name for name in ("x", "text") if name in usual), others[0] if len(others) == 1 else None)
    if source is None:
        raise DataError(
            f"the records have {', '.join(map(repr, counts)) or 'nothing'}, none of them called 'x' or 'text'\n"
            "  specify fields={'x': ..., 'label': ...}"
        )
    return {"x": source, **({"label": "label"} if "label" in usual else {})}
