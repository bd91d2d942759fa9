"""JSON Lines: one record a line, with texts, numbers and labels."""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.text_files import TextFiles
from reprkit.data.formats.value_readers import LabelReader, RecordKind, ValueReader, make_reader, type_name
from reprkit.data.signature import Signature
from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count, Share

SUFFIXES = frozenset((".jsonl", ".ndjson"))
_HEAD = 100  # records whose majority decides what is not stated


class JsonLines(Dataset):
    """A JSON Lines file, or all .jsonl and .ndjson files below a folder: one JSON object a line.

    What is not stated is inferred; where records differ, most of the first 100 decide:

    =====================================  ==============================================================
    value                                  field
    =====================================  ==============================================================
    string                                 tokens (t,), its UTF-8 bytes, vocab 256, of varying length
    list of numbers                        vector (d,), all of one length
    list of lists of numbers               sequence (t c), of varying length
    integer, boolean, or named "label"     label, numbered in the sorted order of its values
    =====================================  ==============================================================

    Lists of whole numbers are symbols with ``kinds={"x": "tokens"}`` (vocab = largest + 1), and strings are
    labels with "label".  A label's values, in their order, stand in ``describe`` as ``classes`` (for a field
    of another name than "label": ``NAME_classes``).

    A line that is no JSON object, lacks a field, or has one of another type or size is left out, counted and
    named.  Files are mapped, not read: 16 bytes a line are kept in memory.

    Args:
        path: a file (any suffix), or a folder of .jsonl and .ndjson files at any depth.
        fields: field -> its name in the records; only these are read then.  By default ``x`` is "x", or
            "text", or the only name there is besides "label"; and "label" is read where there is one.
        kinds: field -> "tokens", "vector", "sequence" or "label".
        classes: field -> the values of a label, where they must not depend on the file (a test file may lack
            some); a record with another one is left out.
        vocabs: field -> number of symbols of lists of whole numbers, for the same reason.
        length: at most this many tokens or steps of what varies; the rest is cut off.  None: all.
        max_corrupt: the largest share of broken records that is left out; more is an error.

    Raises:
        DataError: no such file, no records, no field that could be ``x``, or too many that are broken.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fields: Mapping[str, str] | None = None,
        *,
        kinds: Mapping[str, RecordKind] | None = None,
        classes: Mapping[str, Iterable[Any]] | None = None,
        vocabs: Mapping[str, Count] | None = None,
        length: Count | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        corrupt = CorruptFiles("records", max_corrupt)
        self._files = TextFiles(path, SUFFIXES, "JSON Lines files")
        lines = self._files.head(_HEAD)
        if not lines:
            raise DataError(f"{str(self._files.path)!r} holds no records: it is empty")
        head = _readable(lines)
        if not head:
            raise DataError(
                f"none of the first lines of {str(self._files.path)!r} is a JSON object\n"
                '  one record a line, such as {"text": "...", "label": "..."}'
            )
        self._fields = _chosen(fields, head)
        stated = {"kinds": kinds or {}, "classes": classes or {}, "vocabs": vocabs or {}}
        for option, given in stated.items():
            for name in given:
                if name not in self._fields:
                    raise DataError(
                        f"{option}: there is no field {name!r}.{nearest(name, self._fields)}\n"
                        f"  there are: {', '.join(self._fields)}"
                    )
        self._readers: dict[str, ValueReader] = {}
        for name, theirs in self._fields.items():
            self._readers[name] = make_reader(
                name,
                [record[theirs] for record in head if theirs in record],
                kind=(kinds or {}).get(name),
                length=length,
                classes=list(classes[name]) if classes and name in classes else None,
                vocab=(vocabs or {}).get(name),
            )
        self._lengths = {n: array("q") for n, each in self._readers.items() if None in each.field().shape}
        self._files.index(self._note, corrupt)
        self.facts: dict[str, Any] = corrupt.facts()
        for name, reader in self._readers.items():
            if isinstance(reader, LabelReader):
                self.facts["classes" if name == "label" else f"{name}_classes"] = reader.number_classes()
        self.signature = Signature({name: reader.field() for name, reader in self._readers.items()})

    def __len__(self) -> int:
        """How many records."""
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One record; a negative index counts from the end."""
        record = self.record(index)
        return {name: reader(record[self._fields[name]]) for name, reader in self._readers.items()}

    def lengths(self) -> dict[str, Tensor]:
        """Steps or symbols of every record (n,), for each field whose length varies."""
        return {name: torch.tensor(counts) for name, counts in self._lengths.items()}

    def record(self, index: int) -> dict[str, Any]:
        """The whole record, as it stands in the file."""
        return dict(json.loads(self._files[index]))

    @property
    def name(self) -> str:
        """The file's or folder's name."""
        return self._files.name

    def _note(self, line: bytes) -> None:
        """Raise what is wrong with a record; take account of it only where nothing is."""
        record = _object(line)
        noted = []
        for name, reader in self._readers.items():
            theirs = self._fields[name]
            if theirs not in record:
                raise DataError(f"it has no {theirs!r}")
            try:
                noted.append((name, reader, reader.validate(record[theirs])))
            except DataError as error:
                raise DataError(f"{theirs!r} {error}") from error
        for name, reader, value in noted:
            reader.observe(value)
            if name in self._lengths:
                self._lengths[name].append(reader.size(value))


def _object(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"no JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"it is {type_name(record)}, not an object")
    return record


def _readable(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        try:
            found.append(_object(line))
        except DataError:
            continue  # named when all lines are looked at
    return found


def _chosen(fields: Mapping[str, str] | None, head: list[dict[str, Any]]) -> dict[str, str]:
    """Field -> its name in the records."""
    counts = Counter(name for record in head for name in record)
    for ours, theirs in (fields or {}).items():
        if theirs not in counts:
            raise DataError(
                f"fields: the first records have no {theirs!r} for field {ours!r}.{nearest(theirs, counts)}\n"
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
            "  say which is which: fields={'x': ..., 'label': ...}"
        )
    return {"x": source, **({"label": "label"} if "label" in usual else {})}
