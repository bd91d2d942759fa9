"""``rk.dataset``: make a data set from a reference, a file, a folder or arrays."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.folders import count_suffixes
from reprkit.data.formats.arrays import Arrays
from reprkit.data.formats.examples import Examples
from reprkit.data.formats.table import Table, is_frame
from reprkit.data.formats.tables import is_stream, is_table
from reprkit.data.regular_files import check_regular
from reprkit.data.signature import Signature
from reprkit.errors import DataError, ReferenceSyntaxError, UnknownPartError
from reprkit.registry.create import create
from reprkit.registry.references import Reference, parse
from reprkit.registry.registry import Registry, default_registry
from reprkit.utils.collectives import is_main

_SOURCES = (
    "a reference such as 'digits', a file or folder of data, arrays, a DataFrame, a data set of torch or of datasets, an iterable "
    "of examples, or an rk.Dataset"
)


def dataset(source: Any, *, registry: Registry | None = None, **options: Any) -> Dataset:
    """Make a data set from a reference, a path, arrays, a table or a data set.

    The content of a path decides which data set reads it.  How it was read is printed in one line on standard error, where
    nothing was declared (``Dataset.summary``).

    ===================================  ============
    path                                 data set
    ===================================  ============
    .npy, .npz, a folder of .npy         arrays
    a folder of images                   images
    a folder of sound files              sound-folder (log-mel frames) with reprkit-audio, else audio (waveforms)
    .jsonl, .ndjson, or a folder         json-lines
    .txt, or a folder                    lines
    .csv, .tsv, .parquet                 table
    .tar, or a folder                    shards
    ===================================  ============

    Args:
        source: a reference (``"digits"``, ``"arrays(path='x.npz')"``), a path (``"./digits"`` for the folder where a data set
            has this name), an array or tensor (n ...), a dict of them, a DataFrame or Bunch, a data set of torch, a list or an
            iterable of examples (``reprkit.data.formats.examples.Examples``), a data set of the library ``datasets`` (``hub``), or
            an rk.Dataset, which is returned unchanged.
        registry: where references are looked up; by default the process-wide one.
        options: arguments of the data set that reads the source: ``rk.dataset("pets", size=32, labels=True)``,
            ``rk.dataset(frame, columns={"id": "drop"})``, ``rk.dataset(x, kinds={"x": "image"})``.

    Raises:
        UnknownPartError, PartArgumentError, ReferenceSyntaxError: see ``rk.create``.
        DataError: the source is none of these, or its content is not usable.
    """
    if isinstance(source, str | Path | Reference):
        path = _as_path(source, registry)
        if path is not None:
            return _announce(
                _create(_with_options(_reference_for(path, registry), options), registry), options
            )
        reference = source if isinstance(source, Reference) else parse(str(source))
        return _create(_with_options(reference, options), registry)
    if isinstance(source, Dataset):
        if options:
            raise DataError(
                f"a data set is returned unchanged, so {', '.join(options)} cannot be set: set it where it is made"
            )
        return _check(source, type(source).__name__)
    if is_frame(source):
        return _announce(Table(source, **options), options)
    if is_table(source):
        from reprkit.data.formats.hub import Hub
        from reprkit.data.formats.hub_stream import HubStream

        return _announce((HubStream if is_stream(source) else Hub)(source, **options), options)
    if isinstance(source, tuple) and source and all(isinstance(each, np.ndarray | Tensor) for each in source):
        given = ", ".join(str(tuple(each.shape)) for each in source)
        raise DataError(
            f"a tuple of arrays, {given}, has no names of fields: give a dict, {{'x': x, 'label': labels}}"
        )
    if isinstance(source, Mapping | np.ndarray | Tensor) or (
        isinstance(source, list | tuple) and not _is_list_of_examples(source)
    ):
        return _announce(_arrays(source, options), options)
    if isinstance(source, torch.utils.data.DataLoader):
        raise DataError(
            "a DataLoader yields batches, and reprkit makes its own: give its data set, rk.dataset(loader.dataset)"
        )
    if isinstance(source, torch.utils.data.Dataset | Iterable):
        return _announce(Examples(source, **options), options)
    raise DataError(
        f"a data set is {_SOURCES}, not {type(source).__name__}\n"
        "  write a class for it: subclass rk.Dataset, set signature, define __len__ and __getitem__"
    )


def is_source(source: Any) -> bool:
    """Whether an object that is no rk.Dataset stands for a whole data set: a reference, a path, a table, a foreign data set."""
    return isinstance(source, str | Path | torch.utils.data.Dataset) or is_frame(source) or is_table(source)


def _is_list_of_examples(source: Sequence[Any]) -> bool:
    """Whether a list holds dicts, (x, label) pairs or pictures, rather than the rows of an array."""
    first = source[0] if len(source) and isinstance(source, list) else None
    values = first if isinstance(first, tuple) else ()
    return (
        isinstance(first, Mapping)
        or any(np.ndim(each) or not np.isscalar(each) for each in values if not isinstance(each, Tensor))
        or any(each.ndim for each in values if isinstance(each, Tensor))
        or type(first).__module__.partition(".")[0] == "PIL"
    )


def _arrays(source: Any, options: Mapping[str, Any]) -> Dataset:
    return Arrays(source, **options)


def _with_options(reference: Reference, options: Mapping[str, Any]) -> Reference:
    return replace(reference, arguments={**reference.arguments, **options}) if options else reference


def _announce(data: Dataset, options: Mapping[str, Any]) -> Dataset:
    """Print how the data was read, unless the user declared the kinds of its fields."""
    if "kinds" not in options and is_main():
        print(data.summary(), file=sys.stderr)
    return data


def _create(reference: Any, registry: Registry | None) -> Dataset:
    created = create("dataset", reference, registry=registry)
    entry = (registry or default_registry()).find("dataset", reference)
    data = _check(created, f"dataset {entry.qualified}")
    data.reference = str(Reference(entry.name, reference.arguments, entry.distribution))
    return data


def _as_path(source: str | Path | Reference, registry: Registry | None) -> Path | None:
    """Return the file or folder that the source names; None for a reference."""
    if isinstance(source, Path):
        return source.expanduser()
    if isinstance(source, Reference):
        return None
    text = source.strip()
    path = Path(text).expanduser() if text else Path()
    if text.startswith((".", "/", "~")) or path.suffix.lower() in _file_suffixes():
        return path
    if not text or not os.path.exists(text):  # Path.exists would raise where the text is too long
        return None
    try:
        found = (registry or default_registry()).find("dataset", text)
    except (ReferenceSyntaxError, UnknownPartError):
        return path
    if text == found.name:
        raise DataError(
            f"{text!r} is an installed data set and a {'folder' if path.is_dir() else 'file'} here\n"
            f"  write {'./' + text!r} for the {'folder' if path.is_dir() else 'file'}, or {found.qualified!r} for the data set"
        )
    return None


def _file_suffixes() -> dict[str, str]:
    """Return the suffixes of single files: suffix -> data set that reads it."""
    from reprkit.data.formats import json_lines, lines, shard_paths, table

    return {
        **dict.fromkeys((".npy", ".npz"), "arrays"),
        **dict.fromkeys(json_lines.SUFFIXES, "json-lines"),
        **dict.fromkeys(lines.SUFFIXES, "lines"),
        **dict.fromkeys(table.SUFFIXES, "table"),
        **dict.fromkeys(shard_paths.SUFFIXES, "shards"),
    }


def _reference_for(path: Path, registry: Registry | None) -> Reference:
    """Return a reference to the data set that reads a file or folder."""
    from reprkit.data import sound
    from reprkit.data.formats import image_files, table

    if not check_regular(path).exists():
        raise DataError(f"no file or folder {str(path)!r} (looked in {Path.cwd()})")
    files = _file_suffixes()
    folders = {
        **files,
        **dict.fromkeys((*image_files.suffixes(), *image_files.undecoded()), "images"),
        **dict.fromkeys((*sound.SUFFIXES, *sound.UNDECODED), "audio"),
    }
    for suffix in (".npz", *table.SUFFIXES):  # a table in a folder of pictures describes them
        del folders[suffix]
    if not path.is_dir():
        name = files.get(path.suffix.lower())
        if name is None:
            folder_name = folders.get(path.suffix.lower())
            raise DataError(
                f"{str(path)!r} is a single file that no data set reads\n"
                + (
                    f"  give the folder of such files: {_format_reference(folder_name, path.parent, registry)}"
                    if folder_name
                    else _list_suffixes(files)
                )
            )
        return _reference(name, path)
    suffixes = count_suffixes(path)
    matches = {folders[suffix] for suffix in suffixes if suffix in folders}
    if "arrays" in matches and not any(path.glob("*.npy")):
        matches.discard("arrays")  # its files must lie directly in the folder, one per field
    if len(matches) == 1:
        return _preferred(matches.pop(), path, registry)
    amounts = ", ".join(
        f"{count:,} {suffix or 'without a suffix'}" for suffix, count in suffixes.most_common(10)
    )
    choices = [_format_reference(name, path, registry) for name in sorted(matches)]
    raise DataError(
        f"the folder {str(path)!r} holds {amounts or 'no files'}: "
        + (
            f"several data sets could read it\n  choose: {' or '.join(choices)}"
            if matches
            else f"no data set reads these\n{_list_suffixes(folders)}"
        )
    )


def _preferred(name: str, path: Path, registry: Registry | None) -> Reference:
    """Return a reference to the installed data set that opens such folders, else to reprkit's own.

    Raises:
        DataError: several open them.
    """
    openers = [
        part
        for part in (registry or default_registry()).specs("dataset")
        if part.spec.opens == name and not part.missing
    ]
    if len(openers) > 1:
        references = [str(Reference(part.name, {"root": str(path)}, part.distribution)) for part in openers]
        choices = [f"rk.dataset({reference!r})" for reference in references]
        raise DataError(
            f"several data sets open a folder such as {str(path)!r}\n  choose: {' or '.join(choices)}"
        )
    if not openers:
        return _reference(name, path)
    return Reference(openers[0].name, {"root": str(path)}, openers[0].distribution)


def _reference(name: str, path: Path) -> Reference:
    return Reference(name, {"root" if name in ("images", "audio") else "path": str(path)}, "reprkit")


def _format_reference(name: str, path: Path, registry: Registry | None) -> str:
    reference = _preferred(name, path, registry)
    return f"rk.dataset({str(Reference(reference.name, reference.arguments))!r})"


def _list_suffixes(by_suffix: Mapping[str, str]) -> str:
    by_set: dict[str, list[str]] = {}
    for suffix, name in sorted(by_suffix.items()):
        by_set.setdefault(name, []).append(suffix)
    return "  known: " + "; ".join(f"{', '.join(suffixes)} ({name})" for name, suffixes in by_set.items())


def _check(data: Any, what: str) -> Dataset:
    if not isinstance(data, Dataset):
        raise DataError(f"{what} is a {type(data).__name__}, not an rk.Dataset: its class must subclass it")
    if not isinstance(getattr(data, "signature", None), Signature):
        raise DataError(f"{what} has no signature: set self.signature = Signature({{'x': Field(...)}})")
    if not data:
        raise DataError(f"{what} is empty: it has no examples")
    return data
