"""Read a checkpoint from its JSON and the header of its weights.  No other module opens ``reprkit.json``.

Nothing is built and no weights are read, so that a checkpoint can be inspected where its plugins, or torch, are missing.
``rk.load`` builds the model.  Does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprkit.checkpoints.manifest_check import PART, NamedPart, named_parts
from reprkit.errors import CheckpointError
from reprkit.registry.references import Reference
from reprkit.runs.filenames import FORMAT, MANIFEST, MODEL, WEIGHTS
from reprkit.utils.atomic_files import recover_folder
from reprkit.utils.untrusted_json import MAX_BYTES, parse_json, read_json

_REAL = ("F", "BF")  # prefixes of safetensors' names of real dtypes
# safetensors' names of dtypes -> bits of one value
_BITS = {
    name: bits
    for bits, names in {
        4: ("F4",),
        6: ("F6_E2M3", "F6_E3M2"),
        8: ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
        16: ("I16", "U16", "F16", "BF16"),
        32: ("I32", "U32", "F32"),
        64: ("C64", "F64", "I64", "U64"),
    }.items()
    for name in names
}


@dataclass(frozen=True)
class StoredTensor:
    """One entry of the weights' header; ``start``: its first byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int
    start: int = field(default=0, compare=False)

    @property
    def real(self) -> bool:
        """Whether its values are real numbers."""
        return self.dtype.startswith(_REAL)

    @property
    def elements(self) -> int:
        """The number of its values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class StoredCheckpoint:
    """The contents of a checkpoint's folder.

    Attributes:
        folder: of the checkpoint itself, even if it was read by the folder of its run.
        manifest: the content of ``reprkit.json``.
        tensors: name -> type and shape, from the header of ``model.safetensors``.
        tied: name -> name of the stored tensor that it shares, for names without a stored tensor.
        parts: the parts that the manifest names, checked; empty for a newer format, whose entries are unknown.
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
        """Format number of the manifest; above ``filenames.FORMAT`` if written by a newer reprkit."""
        return self.manifest["format"]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all entries of the state dict, including tied ones."""
        shapes = {name: tensor.shape for name, tensor in self.tensors.items()}
        return shapes | {name: shapes[stored] for name, stored in self.tied.items()}

    def elements(self, prefix: str = "") -> int:
        """Count the stored real numbers under a prefix (by default all): parameters, and buffers such as codebook statistics."""
        return sum(
            tensor.elements
            for name, tensor in self.tensors.items()
            if (not prefix or name == prefix or name.startswith(f"{prefix}.")) and tensor.real
        )

    def width(self, name: str, axis: int) -> int | None:
        """Return the size of an adapter's weight (out, in) along an axis; None if there is no such weight."""
        shape = self.shapes.get(f"{name}.weight", ())
        return shape[axis] if len(shape) == 2 else None

    def code_width(self, factor: str) -> int | None:
        """Return the width of a factor's code, as the adapters after it state it; None without a decoder."""
        outputs = self.manifest.get("outputs") or {}
        adapters = [f"adapters.{factor}", *(f"adapters.{name}.{factor}" for name in outputs)]
        widths = [self.width(adapter, 1) for adapter in adapters]
        return next((width for width in widths if width is not None), None)


def read(folder: str | Path, *, newer: bool = False) -> StoredCheckpoint:
    """Read the checkpoint in a folder, or in the ``model`` folder of a run.

    Args:
        folder: where to look.
        newer: also accept a newer format, for displaying as much as possible.

    Raises:
        CheckpointError: there is none, its files are damaged, its manifest names something that is not part of a model, or its
            format is newer.
    """
    folder_path = locate(folder)
    manifest = read_manifest(folder_path, newer=newer)
    parts = _read_parts(folder_path, manifest) if manifest["format"] <= FORMAT else []
    if not (folder_path / WEIGHTS).is_file():
        raise CheckpointError(f"{folder_path} is damaged: it has no {WEIGHTS}")
    tensors, metadata = read_header(folder_path / WEIGHTS)
    tied = {name: stored for name, stored in metadata.items() if stored in tensors}
    return StoredCheckpoint(folder_path, manifest, tensors, tied, parts)


def holds_checkpoint(folder: str | Path) -> bool:
    """Whether this folder itself contains a checkpoint."""
    return (Path(folder) / MANIFEST).is_file()


def locate(folder: str | Path, *, hint: str = "") -> Path:
    """Return the folder of the manifest: the given one, or ``model`` in it; an interrupted replacement is undone first.

    Args:
        folder: where to look.
        hint: added to the error message if there is no such folder.

    Raises:
        CheckpointError: neither contains a manifest.
    """
    folder_path = recover_folder(folder)
    for candidate in (folder_path, recover_folder(folder_path / MODEL)):
        if holds_checkpoint(candidate):
            return candidate
    if folder_path.exists():
        raise CheckpointError(
            f"{folder_path} is not a checkpoint: it has no {MANIFEST}; a checkpoint is what model.save(FOLDER) writes"
        )
    siblings = folder_path.parent.glob(f"*/{MANIFEST}") if folder_path.parent.is_dir() else ()
    nearby = sorted(str(path.parent) for path in siblings)[:5]
    known = f"\n  checkpoints beside it: {', '.join(nearby)}" if nearby else ""
    raise CheckpointError(
        f"there is no folder {folder_path}{known}{hint}\n  a checkpoint is what model.save(FOLDER) writes"
    )


def read_manifest(folder_path: Path, *, newer: bool = False) -> Mapping[str, Any]:
    """Read ``reprkit.json`` from a checkpoint's own folder.

    Raises:
        CheckpointError: it cannot be read, has no format number, or (unless ``newer``) a newer one.
    """
    path = folder_path / MANIFEST
    try:
        manifest = read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if type(version) is not int:
        raise CheckpointError(f"{path} is damaged: it states no format number")
    if version > FORMAT and not newer:
        raise CheckpointError(
            f"{folder_path} is of format {version}, written by reprkit {manifest.get('reprkit')}; "
            f"this reprkit reads up to {FORMAT}\n"
            "  upgrade it: pip install --upgrade reprkit"
        )
    return manifest


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Read the tensors by name and the metadata from the header of a safetensors file: eight bytes of length, then JSON.

    Raises:
        CheckpointError: the file is truncated, not a safetensors file, or its header describes other data than follows it.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_BYTES, size - 8):
                raise CheckpointError(f"{path} cannot be read: it is damaged, or not a safetensors file")
            entries = parse_json(file.read(length))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    metadata = entries.pop("__metadata__", {}) if isinstance(entries, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(
            f"{path} cannot be read: its header holds no tensors, or metadata other than texts"
        )
    tensors = {
        name: _read_entry(entry, 8 + length, f"{path} cannot be read: tensor {name[:80]!a}")
        for name, entry in entries.items()
    }
    end = 8 + length
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.bytes)):
        if tensor.start != end:
            raise CheckpointError(f"{path} is damaged: its tensors overlap, or leave gaps")
        end += tensor.bytes
    if size != end:
        raise CheckpointError(f"{path} is damaged: it has {size} bytes and its header describes {end}")
    return tensors, metadata


def _read_entry(entry: Any, data: int, where: str) -> StoredTensor:
    """Return a tensor of the header; its bytes are those of its shape.  ``data``: the first byte after the header."""
    record = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (record.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise CheckpointError(f"{where} has no known dtype")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise CheckpointError(f"{where} has no shape")
    if not isinstance(offsets, list) or [type(offset) for offset in offsets] != [int, int]:
        raise CheckpointError(f"{where} has no data_offsets")
    stored = StoredTensor(dtype, tuple(shape), offsets[1] - offsets[0], data + offsets[0])
    if stored.elements * _BITS[dtype] != 8 * stored.bytes or offsets[0] < 0:
        raise CheckpointError(f"{where} has {stored.bytes} bytes, which is not the size of its shape {shape}")
    return stored


def _read_parts(folder_path: Path, manifest: Mapping[str, Any]) -> list[NamedPart]:
    try:
        return named_parts(manifest)
    except CheckpointError as error:
        raise CheckpointError(f"{folder_path / MANIFEST}: {error}") from error


# ------------------------------------------------------------------ parts of the manifest


def reference_text(record: Any) -> str:
    """Return the reference that creates a part of the manifest; a sum of objectives is returned as a sum."""
    if isinstance(record, Mapping) and "sum" in record:
        terms = [(weight, reference_text(term)) for weight, term in record["sum"]]
        return " + ".join(text if weight == 1 else f"{weight:g} * {text}" for weight, text in terms)
    if not isinstance(record, Mapping) or "id" not in record:
        return str(record)
    distribution, _, name = str(record["id"]).rpartition("/")
    arguments = {key: _argument(value) for key, value in record.get("arguments", {}).items()}
    return str(Reference(name, arguments, None if distribution == "reprkit" else distribution or None))


def iterate_part_names(record: Any, kind: str) -> Iterator[tuple[str, str]]:
    """Iterate over (kind, qualified name) of a part of the manifest and of the parts inside it.

    The record need not be checked, so that a manifest of a newer format can be shown; checked parts: ``walk_parts``.
    """
    if isinstance(record, Mapping):
        if "id" in record:
            yield record.get(PART, kind), str(record["id"])
        for value in record.values():
            yield from iterate_part_names(value, kind)
    elif isinstance(record, list):
        for value in record:
            yield from iterate_part_names(value, kind)


def _argument(value: Any) -> Any:
    """Convert lists back to tuples and nested parts to references."""
    if isinstance(value, list):
        return tuple(_argument(item) for item in value)
    if isinstance(value, Mapping):
        return (
            reference_text(value) if "id" in value else {key: _argument(item) for key, item in value.items()}
        )
    return value
