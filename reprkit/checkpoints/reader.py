"""A checkpoint read from JSON and the weights' header: the only place that opens ``reprkit.json``.  Torch-free.

Nothing is built and no weights are read, so that a checkpoint can be looked at where its plugins, or torch, are missing.
``rk.load`` makes a model of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprkit.checkpoints.manifest_check import NamedPart, named_parts
from reprkit.errors import CheckpointError
from reprkit.registry.references import Reference
from reprkit.runs.filenames import FORMAT, MANIFEST, MODEL, WEIGHTS
from reprkit.utils.atomic_files import recover_folder

_REAL = ("F", "BF")  # safetensors' names of types of real numbers begin with these
_LONGEST = 100_000_000  # bytes of a header; safetensors itself reads no longer ones


@dataclass(frozen=True)
class StoredTensor:
    """One entry of the weights' header."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def real(self) -> bool:
        """Whether its values are real numbers."""
        return self.dtype.startswith(_REAL)

    @property
    def elements(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class StoredCheckpoint:
    """What a checkpoint's folder says.

    Attributes:
        folder: of the checkpoint itself, also where that of its run was given.
        manifest: ``reprkit.json``.
        tensors: name -> type and shape, from the header of ``model.safetensors``.
        tied: name -> the stored tensor that it shares, for names under which nothing is stored.
        parts: what the manifest names, checked; none of a newer format, of which it is not known what it may hold.
    """

    folder: Path
    manifest: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    tied: Mapping[str, str] = field(default_factory=dict)
    parts: Sequence[NamedPart] = ()

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.folder / WEIGHTS

    @property
    def format(self) -> int:
        """Of the manifest; above ``filenames.FORMAT`` when a newer reprkit wrote it."""
        return self.manifest["format"]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every name of the state dict, tied ones included."""
        shapes = {name: each.shape for name, each in self.tensors.items()}
        return shapes | {name: shapes[kept] for name, kept in self.tied.items()}

    def elements(self, prefix: str = "") -> int:
        """How many real numbers are stored under a name, of all by default: parameters, and buffers such as codebook statistics."""
        return sum(
            each.elements
            for name, each in self.tensors.items()
            if (not prefix or name == prefix or name.startswith(f"{prefix}.")) and each.real
        )

    def width(self, name: str, axis: int) -> int | None:
        """The size of an adapter's weight (out, in) along an axis; None where there is none."""
        found = self.tensors.get(f"{name}.weight")
        return found.shape[axis] if found is not None and len(found.shape) == 2 else None


def read(folder: str | Path, *, newer: bool = False) -> StoredCheckpoint:
    """The checkpoint in a folder, or in the ``model`` folder of a run.

    Args:
        folder: where to look.
        newer: accept a newer format too, to show of it what can be shown.

    Raises:
        CheckpointError: there is none, its files are damaged, its manifest names what is no part of a model, or it is of a
            newer format.
    """
    place = locate(folder)
    manifest = read_manifest(place, newer=newer)
    named = _named(place, manifest) if manifest["format"] <= FORMAT else []
    if not (place / WEIGHTS).is_file():
        raise CheckpointError(f"{place} is damaged: it has no {WEIGHTS}")
    tensors, metadata = read_header(place / WEIGHTS)
    tied = {name: kept for name, kept in metadata.items() if kept in tensors}
    return StoredCheckpoint(place, manifest, tensors, tied, named)


def holds_checkpoint(folder: str | Path) -> bool:
    """Whether a checkpoint lies in this very folder."""
    return (Path(folder) / MANIFEST).is_file()


def locate(folder: str | Path, *, hint: str = "") -> Path:
    """The folder that holds the manifest: the one given, or ``model`` in it; an interrupted replacement is undone first.

    Args:
        folder: where to look.
        hint: what the error says besides, where there is no such folder.

    Raises:
        CheckpointError: neither holds one.
    """
    place = recover_folder(folder)
    for each in (place, recover_folder(place / MODEL)):
        if holds_checkpoint(each):
            return each
    if place.exists():
        raise CheckpointError(
            f"{place} is not a checkpoint: it has no {MANIFEST}; a checkpoint is what model.save(FOLDER) writes"
        )
    beside = place.parent.glob(f"*/{MANIFEST}") if place.parent.is_dir() else ()
    near = sorted(str(each.parent) for each in beside)[:5]
    known = f"\n  checkpoints beside it: {', '.join(near)}" if near else ""
    raise CheckpointError(
        f"there is no folder {place}{known}{hint}\n  a checkpoint is what model.save(FOLDER) writes"
    )


def read_manifest(place: Path, *, newer: bool = False) -> Mapping[str, Any]:
    """``reprkit.json`` of a checkpoint's own folder.

    Raises:
        CheckpointError: it cannot be read, states no format, or (unless ``newer``) a newer one.
    """
    path = place / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if type(version) is not int:
        raise CheckpointError(f"{path} is damaged: it states no format number")
    if version > FORMAT and not newer:
        raise CheckpointError(
            f"{place} is of format {version}, written by reprkit {manifest.get('reprkit')}; this reprkit reads up to {FORMAT}\n"
            "  upgrade it: pip install --upgrade reprkit"
        )
    return manifest


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of a safetensors file by name, and the file's metadata: eight bytes of length, then JSON.

    Raises:
        CheckpointError: the file is cut short, or no safetensors file.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_LONGEST, size - 8):
                raise CheckpointError(f"{path} cannot be read: it is damaged, or not a safetensors file")
            entries = json.loads(file.read(length))
        metadata = {str(name): str(each) for name, each in entries.pop("__metadata__", {}).items()}
        tensors, end = {}, 0
        for name, each in entries.items():
            first, last = each["data_offsets"]
            tensors[name] = StoredTensor(str(each["dtype"]), tuple(each["shape"]), last - first)
            end = max(end, last)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {type(error).__name__} {error}") from error
    if size != 8 + length + end:
        raise CheckpointError(
            f"{path} is damaged: it has {size} bytes and its header speaks of {8 + length + end}"
        )
    return tensors, metadata


def _named(place: Path, manifest: Mapping[str, Any]) -> list[NamedPart]:
    try:
        return named_parts(manifest)
    except CheckpointError as error:
        raise CheckpointError(f"{place / MANIFEST}: {error}") from error


# ------------------------------------------------------------------ parts of the manifest


def reference_text(record: Any) -> str:
    """A part of the manifest as the reference that makes it; sums of objectives as a sum."""
    if isinstance(record, Mapping) and "sum" in record:
        terms = [(weight, reference_text(each)) for weight, each in record["sum"]]
        return " + ".join(text if weight == 1 else f"{weight:g} * {text}" for weight, text in terms)
    if not isinstance(record, Mapping) or "id" not in record:
        return str(record)
    distribution, _, name = str(record["id"]).rpartition("/")
    given = {key: _argument(value) for key, value in record.get("arguments", {}).items()}
    return str(Reference(name, given, None if distribution == "reprkit" else distribution or None))


def iterate_part_names(record: Any, kind: str) -> Iterator[tuple[str, str]]:
    """Every (kind, qualified name) inside a part of the manifest."""
    if isinstance(record, Mapping):
        if "id" in record:
            yield record.get("$part", kind), str(record["id"])
        for value in record.values():
            yield from iterate_part_names(value, kind)
    elif isinstance(record, list):
        for value in record:
            yield from iterate_part_names(value, kind)


def _argument(value: Any) -> Any:
    """Lists were tuples; a nested part is its reference."""
    if isinstance(value, list):
        return tuple(_argument(each) for each in value)
    if isinstance(value, Mapping):
        return (
            reference_text(value) if "id" in value else {key: _argument(each) for key, each in value.items()}
        )
    return value
