"""``rk.dataset``: make a data set from a reference, a file, a folder or arrays."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.formats.arrays import Arrays
from reprkit.data.regular_files import check_regular
from reprkit.data.signature import Signature
from reprkit.errors import DataError, ReferenceSyntaxError, UnknownPartError
from reprkit.registry.create import create
from reprkit.registry.references import Reference, parse
from reprkit.registry.registry import Registry, default_registry

_SOURCES = "a reference such as 'digits', a file or folder of data, arrays, or an rk.Dataset"


def dataset(source: Any, *, registry: Registry | None = None) -> Dataset:
    """Make a data set from a reference, a path, arrays or a data set.

    The content of a path decides which data set reads it, with default options; give a reference to set options
    (``"images(root='pets', size=32, labels=True)"``).

    ===================================  ============
    path                                 data set
    ===================================  ============
    .npy, .npz, a folder of .npy         arrays
    a folder of images                   images
    a folder of sound files              audio
    .jsonl, .ndjson, or a folder         json-lines
    .txt, or a folder                    lines
    ===================================  ============

    Args:
        source: a reference (``"digits"``, ``"arrays(path='x.npz')"``), a path (the name of an installed data
            set takes precedence: write ``"./digits"`` for the folder), an array or tensor (n ...), a dict of
            them, or a data set, which is returned unchanged.
        registry: where references are looked up; by default the process-wide one.

    Raises:
        UnknownPartError, PartArgumentError, ReferenceSyntaxError: see ``rk.create``.
        DataError: the source is none of these, or its content is not usable.
    """
    if isinstance(source, str | Path | Reference):
        path = _as_path(source, registry)
        if path is not None:
            return _create(_reference_for(path), None)
        return _create(parse(source) if isinstance(source, str) else source, registry)
    if isinstance(source, Dataset):
        return _check(source, type(source).__name__)
    if isinstance(source, Mapping | np.ndarray | Tensor | list | tuple):
        return Arrays(source)
    raise DataError(
        f"a data set is {_SOURCES}, not {type(source).__name__}\n"
        "  write a class for it: subclass rk.Dataset, set signature, define __len__ and __getitem__"
    )


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
        (registry or default_registry()).find("dataset", text)
    except (ReferenceSyntaxError, UnknownPartError):
        return path
    return None


def _file_suffixes() -> dict[str, str]:
    """Return the suffixes of single files: suffix -> data set that reads it."""
    from reprkit.data.formats import json_lines, lines

    return {
        **dict.fromkeys((".npy", ".npz"), "arrays"),
        **dict.fromkeys(json_lines.SUFFIXES, "json-lines"),
        **dict.fromkeys(lines.SUFFIXES, "lines"),
    }


def _reference_for(path: Path) -> Reference:
    """Return a reference to the data set that reads a file or folder."""
    from reprkit.data import sound
    from reprkit.data.formats import image_files

    if not check_regular(path).exists():
        raise DataError(f"no file or folder {str(path)!r} (looked in {Path.cwd()})")
    files = _file_suffixes()
    folders = {
        **files,
        **dict.fromkeys(image_files.SUFFIXES, "images"),
        **dict.fromkeys(sound.SUFFIXES, "audio"),
    }
    del folders[".npz"]
    if not path.is_dir():
        name = files.get(path.suffix.lower())
        if name is None:
            folder_name = folders.get(path.suffix.lower())
            raise DataError(
                f"{str(path)!r} is a single file that no data set reads\n"
                + (
                    f"  give the folder of such files: {_format_reference(folder_name, path.parent)}"
                    if folder_name
                    else _list_suffixes(files)
                )
            )
        return _reference(name, path)
    suffixes = _count_suffixes(path)
    matches = {folders[suffix] for suffix in suffixes if suffix in folders}
    if "arrays" in matches and not any(path.glob("*.npy")):
        matches.discard("arrays")  # its files must lie directly in the folder, one per field
    if len(matches) == 1:
        return _reference(matches.pop(), path)
    amounts = ", ".join(f"{count:,} {suffix}" for suffix, count in suffixes.most_common(10)) or "no files"
    raise DataError(
        f"the folder {str(path)!r} holds {amounts}: "
        + (
            f"several data sets could read it\n  choose: {' or '.join(_format_reference(name, path) for name in sorted(matches))}"
            if matches
            else f"no data set reads these\n{_list_suffixes(folders)}"
        )
    )


def _count_suffixes(folder: Path) -> Counter[str]:
    """Count the files of each suffix, at any depth; hidden files are ignored."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return Counter(
        file.suffix.lower() or "without a suffix"
        for file in files
        if not any(part.startswith(".") for part in file.parts)
    )


def _reference(name: str, path: Path) -> Reference:
    return Reference(name, {"root" if name in ("images", "audio") else "path": str(path)}, "reprkit")


def _format_reference(name: str, path: Path) -> str:
    reference = _reference(name, path)
    return f'"{Reference(name, reference.arguments)}"'


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
