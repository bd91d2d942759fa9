"""``rk.dataset``: from a reference, a file, a folder or arrays to a data set."""

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
from reprkit.data.signature import Signature
from reprkit.errors import DataError, ReferenceSyntaxError, UnknownPartError
from reprkit.registry.create import create
from reprkit.registry.references import Reference, parse
from reprkit.registry.registry import Registry, default_registry

_SOURCES = "a reference such as 'digits', a file or folder of data, arrays, or an rk.Dataset"


def dataset(source: Any, *, registry: Registry | None = None) -> Dataset:
    """A data set from whatever names or holds one.

    A path is read by what it holds, with the data set's own defaults; give a reference where options are
    needed (``"images(root='pets', size=32, labels=True)"``).

    ===================================  ============
    path                                 data set
    ===================================  ============
    .npy, .npz, a folder of .npy         arrays
    a folder of pictures                 images
    a folder of sound files              audio
    .jsonl, .ndjson, or a folder         json-lines
    .txt, or a folder                    lines
    ===================================  ============

    Args:
        source: a reference (``"digits"``, ``"arrays(path='x.npz')"``), a path (a string that is the name of
            an installed data set is that one: write ``"./digits"`` for the folder), an array or tensor
            (n ...), a dict of them, or a data set, which is returned as it is.
        registry: where a reference is looked up; the process-wide one when not given.

    Raises:
        UnknownPartError, PartArgumentError, ReferenceSyntaxError: see ``rk.create``.
        DataError: the source is none of these, or what it holds is not fit for use.
    """
    if isinstance(source, str | Path | Reference):
        path = _path(source, registry)
        if path is not None:
            return _made(_held(path), None)
        return _made(parse(source) if isinstance(source, str) else source, registry)
    if isinstance(source, Dataset):
        return _checked(source, type(source).__name__)
    if isinstance(source, Mapping | np.ndarray | Tensor | list | tuple):
        return Arrays(source)
    raise DataError(
        f"a data set is {_SOURCES}, not {type(source).__name__}\n"
        "  make a class of it: subclass rk.Dataset, set signature, define __len__ and __getitem__"
    )


def _made(reference: Any, registry: Registry | None) -> Dataset:
    made = create("dataset", reference, registry=registry)
    found = (registry or default_registry()).find("dataset", reference)
    checked = _checked(made, f"dataset {found.qualified}")
    checked.reference = str(Reference(found.name, reference.arguments, found.distribution))
    return checked


def _path(source: str | Path | Reference, registry: Registry | None) -> Path | None:
    """The file or folder that is meant; None for a reference."""
    if isinstance(source, Path):
        return source.expanduser()
    if isinstance(source, Reference):
        return None
    text = source.strip()
    path = Path(text).expanduser() if text else Path()
    if text.startswith((".", "/", "~")) or path.suffix.lower() in _files():
        return path
    if not text or not os.path.exists(text):  # Path.exists would raise where the text is too long
        return None
    try:
        (registry or default_registry()).find("dataset", text)
    except (ReferenceSyntaxError, UnknownPartError):
        return path
    return None


def _files() -> dict[str, str]:
    """Suffix of a single file -> the data set that reads it."""
    from reprkit.data.formats import json_lines, lines

    found = dict.fromkeys((".npy", ".npz"), "arrays")
    return {
        **found,
        **dict.fromkeys(json_lines.SUFFIXES, "json-lines"),
        **dict.fromkeys(lines.SUFFIXES, "lines"),
    }


def _held(path: Path) -> Reference:
    """The data set that reads a file or folder, as a reference."""
    from reprkit.data import sound
    from reprkit.data.formats import pictures

    if not path.exists():
        raise DataError(f"no file or folder {str(path)!r} (looked in {Path.cwd()})")
    files = _files()
    folders = {
        **files,
        **dict.fromkeys(pictures.SUFFIXES, "images"),
        **dict.fromkeys(sound.SUFFIXES, "audio"),
    }
    del folders[".npz"]
    if not path.is_dir():
        known = files.get(path.suffix.lower())
        if known is None:
            whole = folders.get(path.suffix.lower())
            raise DataError(
                f"{str(path)!r} is one file, which is no data set by itself\n"
                + (
                    f"  give the folder of such files: {_spelled(whole, path.parent)}"
                    if whole
                    else _options(files)
                )
            )
        return _reference(known, path)
    seen = _seen(path)
    found = {folders[suffix] for suffix in seen if suffix in folders}
    if "arrays" in found and not any(path.glob("*.npy")):
        found.discard("arrays")  # its files lie side by side, a field each
    if len(found) == 1:
        return _reference(found.pop(), path)
    amounts = ", ".join(f"{count:,} {suffix}" for suffix, count in seen.most_common(10)) or "no files"
    raise DataError(
        f"the folder {str(path)!r} holds {amounts}: "
        + (
            f"it could be several data sets\n  say which: {' or '.join(_spelled(each, path) for each in sorted(found))}"
            if found
            else f"nothing that a data set reads\n{_options(folders)}"
        )
    )


def _seen(folder: Path) -> Counter[str]:
    """How many files of each suffix, at any depth; hidden ones are left out."""
    names = (each.relative_to(folder) for each in folder.rglob("*") if each.is_file())
    return Counter(
        each.suffix.lower() or "without a suffix"
        for each in names
        if not any(part.startswith(".") for part in each.parts)
    )


def _reference(name: str, path: Path) -> Reference:
    return Reference(name, {"root" if name in ("images", "audio") else "path": str(path)}, "reprkit")


def _spelled(name: str, path: Path) -> str:
    reference = _reference(name, path)
    return f'"{Reference(name, reference.arguments)}"'


def _options(known: Mapping[str, str]) -> str:
    by_set: dict[str, list[str]] = {}
    for suffix, name in sorted(known.items()):
        by_set.setdefault(name, []).append(suffix)
    return "  known: " + "; ".join(f"{', '.join(each)} ({name})" for name, each in by_set.items())


def _checked(made: Any, what: str) -> Dataset:
    if not isinstance(made, Dataset):
        raise DataError(
            f"{what} made a {type(made).__name__}, which is no rk.Dataset: its class must subclass it"
        )
    if not isinstance(getattr(made, "signature", None), Signature):
        raise DataError(f"{what} has no signature: set self.signature = Signature({{'x': Field(...)}})")
    if not made:
        raise DataError(f"{what} is empty: it has no examples")
    return made
