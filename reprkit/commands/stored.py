"""A checkpoint and its run as they lie on the disk: read from JSON and the weights' header, without torch.

``rk.load`` is what makes a model of it.  Here nothing is built, so that a checkpoint can be looked at where
its plugins, or torch, are missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprkit.errors import CheckpointError
from reprkit.filenames import BEST, FORMAT, MANIFEST, METRICS, MODEL, RECORD, RESULTS, WEIGHTS
from reprkit.folders import settled
from reprkit.manifest_check import named_parts, read_manifest
from reprkit.reference import Reference
from reprkit.training.run import last_line

_FLOATS = ("F", "BF")  # safetensors' names of types of real numbers begin with these
_LONGEST = 100_000_000  # bytes of a header; safetensors itself reads no longer ones


@dataclass(frozen=True)
class Tensor:
    """One entry of the weights' header."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def numbers(self) -> int:
        """How many."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Stored:
    """What a checkpoint's folder says.

    Attributes:
        folder: of the checkpoint.
        manifest: ``reprkit.json``.
        tensors: name -> type and shape, from the head of ``model.safetensors``.
    """

    folder: Path
    manifest: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def size(self, prefix: str) -> int:
        """How many real numbers are stored under a name: parameters, and buffers (codebook statistics)."""
        return sum(
            each.numbers
            for name, each in self.tensors.items()
            if (name == prefix or name.startswith(f"{prefix}.")) and each.dtype.startswith(_FLOATS)
        )

    def width(self, name: str, axis: int) -> int | None:
        """The size of an adapter's weight (out, in) along an axis; None where there is none."""
        found = self.tensors.get(f"{name}.weight")
        return found.shape[axis] if found is not None and len(found.shape) == 2 else None


@dataclass
class Run:
    """What lies beside a checkpoint that a run made; ``notes`` says what could not be read."""

    folder: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    notes: list[str] = field(default_factory=list)


def read(folder: Path) -> Stored:
    """The checkpoint in a folder, or in the ``model`` folder of a run.

    Raises:
        CheckpointError: there is none, its files are damaged, or its manifest names what is no part of a model.
    """
    place = settled(folder)
    if not (place / MANIFEST).is_file():
        inner = settled(place / MODEL)
        if not (inner / MANIFEST).is_file():
            what = "there is no such folder" if not place.exists() else f"it has no {MANIFEST}"
            raise CheckpointError(
                f"{folder} is not a checkpoint: {what}; a checkpoint is what model.save(FOLDER) writes"
            )
        place = inner
    manifest = read_manifest(place / MANIFEST)
    if manifest["format"] <= FORMAT:  # what a newer one holds is not known here; no model is made of it
        try:
            named_parts(manifest)
        except CheckpointError as error:
            raise CheckpointError(f"{place / MANIFEST}: {error}") from error
    if not (place / WEIGHTS).is_file():
        raise CheckpointError(f"{place} is damaged: it has no {WEIGHTS}")
    return Stored(place, manifest, header(place / WEIGHTS))


def header(path: Path) -> dict[str, Tensor]:
    """Names, types and shapes of a safetensors file: eight bytes of length, then JSON; no weights are read.

    Raises:
        CheckpointError: the file is cut short, or no safetensors file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_LONGEST, size - 8):
                raise CheckpointError(f"{path} is damaged, or not a safetensors file")
            entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        tensors = {
            name: Tensor(
                str(each["dtype"]), tuple(each["shape"]), each["data_offsets"][1] - each["data_offsets"][0]
            )
            for name, each in entries.items()
        }
        end = max((each["data_offsets"][1] for each in entries.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} cannot be read: {type(error).__name__} {error}") from error
    if size != 8 + length + end:
        raise CheckpointError(
            f"{path} is damaged: it has {size} bytes and its header speaks of {8 + length + end}"
        )
    return tensors


def run_of(stored: Stored) -> Run:
    """The run that a checkpoint belongs to: from its folder, or from the one above ``model`` or ``best``."""
    kept = next((each for each in (stored.folder, stored.folder.parent) if each.name == BEST), None)
    inner = kept or (stored.folder if stored.folder.name == MODEL else None)
    run = Run()
    for place in [stored.folder, *([inner.parent] if inner is not None else [])]:
        if any((place / name).is_file() for name in (RECORD, METRICS, RESULTS)):
            run.folder = place
            break
    else:
        return run
    run.record = _json(run.folder / RECORD, run.notes)
    if kept is not None:  # the results are of another model: the one at the end
        stage = "main" if kept == stored.folder else stored.folder.name
        best = ((run.record.get("stages") or {}).get(stage) or {}).get("best") or {}
        run.metrics, run.source = (
            {best["metric"]: best["value"]} if best else {},
            f"{RECORD}, step {best.get('step')}",
        )
        return run
    run.metrics, run.source = _json(run.folder / RESULTS, run.notes), RESULTS
    if not run.metrics:
        run.metrics, run.source = last_line(run.folder / METRICS), METRICS
    return run


def _json(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        notes.append(f"{path} cannot be read: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def flat(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested metrics, by names joined with dots."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, value


def written(record: Any) -> str:
    """A part of the manifest as the reference that makes it; sums of objectives as a sum."""
    if isinstance(record, Mapping) and "sum" in record:
        terms = [(weight, written(each)) for weight, each in record["sum"]]
        return " + ".join(text if weight == 1 else f"{weight:g} * {text}" for weight, text in terms)
    if not isinstance(record, Mapping) or "id" not in record:
        return str(record)
    distribution, _, name = str(record["id"]).rpartition("/")
    given = {key: _argument(value) for key, value in record.get("arguments", {}).items()}
    return str(Reference(name, given, None if distribution == "reprkit" else distribution or None))


def _argument(value: Any) -> Any:
    """Lists were tuples; a nested part is its reference."""
    if isinstance(value, list):
        return tuple(_argument(each) for each in value)
    if isinstance(value, Mapping):
        return written(value) if "id" in value else {key: _argument(each) for key, each in value.items()}
    return value


def parts(record: Any, kind: str) -> Iterator[tuple[str, str]]:
    """Every (kind, qualified name) inside a part of the manifest."""
    if isinstance(record, Mapping):
        if "id" in record:
            yield record.get("$part", kind), str(record["id"])
        for value in record.values():
            yield from parts(value, kind)
    elif isinstance(record, list):
        for value in record:
            yield from parts(value, kind)
