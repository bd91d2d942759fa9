"""Models on disk: a folder with ``reprkit.json`` (what the model is) and ``model.safetensors`` (its weights).  No pickle.

``README.md`` beside them, the model card, is generated, so that the folder can be put on a model hub as it is.

The manifest names each part by its qualified name and constructor arguments, so that ``rk.load`` makes the model without any
import by the caller; who provides the parts is found through the plugins.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_model

from reprkit.checkpoints import card
from reprkit.checkpoints.hub import fetch, hub_hint, repository
from reprkit.checkpoints.manifest import describe, rebuild
from reprkit.checkpoints.manifest_check import Named, every
from reprkit.checkpoints.reader import StoredCheckpoint, holds_checkpoint, locate, read
from reprkit.errors import CheckpointError, ReprkitError
from reprkit.registry.registry import default_registry
from reprkit.runs.filenames import CARD, MANIFEST, WEIGHTS
from reprkit.training.fsdp import FullStateDict
from reprkit.utils import collectives
from reprkit.utils.atomic_files import replacing, settled, why

if TYPE_CHECKING:
    from reprkit.models.model import Model


class PluginVersionWarning(UserWarning):
    """A checkpoint was written with another version of a plugin than the one installed."""


def save(model: Model, folder: str | Path) -> Path:
    """Write a model as a folder; under several processes all call it, and rank 0 writes.

    An existing checkpoint is replaced in one go: whoever loads meanwhile gets the old one or the new one.  Other files in its
    folder stay, a README.md that somebody wrote or edited among them.  The card that is generated where there is none tells
    of the run, too, when the folder is a run's ``OUT/model``; ``rk.report`` adds what was measured.

    Args:
        model: what ``rk.build`` or ``rk.load`` gave.
        folder: where; parents are made.

    Returns:
        The folder.

    Raises:
        CheckpointError: a part that no plugin offers, an argument that JSON cannot hold, a folder that holds something else, a
            full disk (the older checkpoint is then as it was).
    """
    place = Path(folder)
    manifest = describe(model)
    weights = FullStateDict(model)
    if collectives.rank() != 0:
        return place
    if place.exists() and not place.is_dir():
        raise CheckpointError(f"{place} is a file: a checkpoint is a folder")
    if place.is_dir() and any(map(_foreign, place.iterdir())) and not holds_checkpoint(place):
        raise CheckpointError(
            f"{place} is not empty and holds no {MANIFEST}, so it is not a checkpoint that could be replaced\n"
            f"  give a folder of its own: model.save({str(place / 'model')!r})"
        )
    try:
        with replacing(place, mine=(MANIFEST, WEIGHTS)) as fresh:
            save_model(weights, str(fresh / WEIGHTS), metadata={"format": "pt"})  # type: ignore[arg-type]  # state_dict() will do
            (fresh / MANIFEST).write_text(
                json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8"
            )
            card.accompany(fresh, place)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot write {place}: {why(error)}\n  an older checkpoint there is untouched"
        ) from error
    return place


def load(
    folder: str | Path,
    *,
    hub: bool = False,
    revision: str | None = None,
    map_location: str | torch.device = "cpu",
) -> Model:
    """Read a model, in evaluation mode (call ``.train()`` to go on training it by hand; ``rk.loop`` does so itself).

    No code is read from the folder: its manifest names parts that are installed here, and is checked before one is imported.

    Args:
        folder: of the checkpoint, or of a run that has one in ``model/``; or ``"hub:user/name"``, a model on the hub.
        hub: ``folder`` is the name of a model on the hub, ``"user/name"``; without it a path is never looked up there.
        revision: of a model on the hub: a branch, tag or commit.
        map_location: the device to put it on.

    Raises:
        CheckpointError: missing or damaged files, nothing of that name here or on the hub, a newer format, a plugin that is not
            installed, a manifest that names what is no part of a model or a part where none is taken, weights that do not fit.
    """
    stored = read(_found(folder, hub, revision))
    place, manifest = stored.folder, stored.manifest
    _check_plugins(manifest, stored.parts, place)
    try:
        model = rebuild(manifest)
    except CheckpointError as error:
        raise CheckpointError(f"{place / MANIFEST}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ReprkitError):
            error.add_note(f"while loading {place}")
            raise
        raise CheckpointError(f"{place / MANIFEST} is damaged: {type(error).__name__} {error}") from error
    except ReprkitError as error:
        error.add_note(f"while loading {place}")
        raise
    _fill(model, stored)
    return model.to(map_location).eval()


def _foreign(path: Path) -> bool:
    """Whether a file is not one that a new, empty repository holds."""
    return path.name != CARD and not path.name.startswith(".git") and path.name != "LICENSE"


def _found(folder: str | Path, hub: bool, revision: str | None) -> Path:
    name = repository(folder, hub)
    if name is not None:
        return fetch(name, revision)
    place = settled(folder)
    if revision is not None:
        raise CheckpointError(
            f"revision={revision!r} is for a model on the hub ('hub:user/name'); {folder} is a path on this machine"
        )
    return locate(place, hint=hub_hint(folder))


def _check_plugins(manifest: Mapping[str, Any], parts: Sequence[Named], place: Path) -> None:
    """Every distribution that the checkpoint needs must offer its parts; another version of it is worth one warning."""
    wanted: Mapping[str, str] = manifest["plugins"]
    registry = default_registry()
    rows = {name: [row for row in registry.rows if row.distribution == name] for name in wanted}
    faults, others = [], []
    for name, version in wanted.items():
        if not rows[name]:
            faults.append(f"{name} {version}, which is not installed: pip install '{name}=={version}'")
        elif all(row.status != "ok" for row in rows[name]):
            row = rows[name][0]
            faults.append(f"{name} {version}; {row.title} is installed and {row.status}: {row.reason}")
        elif name != "reprkit" and version not in {row.version for row in rows[name]}:
            others.append(f"{name} {version} (installed: {rows[name][0].version})")
    if faults:
        raise CheckpointError(f"{place} needs {f'{chr(10)}  and '.join(faults)}")
    for part in every(parts):
        name = part.id.partition("/")[0]
        if part.id not in {found.qualified for found in registry.specs(part.kind)}:
            title = next((f"{row.title} is installed and" for row in rows.get(name, ())), f"{name}")
            version = wanted.get(name, "of unknown version")
            raise CheckpointError(
                f"{place} needs {part.kind} {part.id}, written with {name} {version}; {title} does not offer it\n"
                f"  try: pip install '{name}=={version}'"
            )
    if others:
        warnings.warn(f"{place} was written with {', '.join(others)}", PluginVersionWarning, stacklevel=3)


def _fill(model: Model, stored: StoredCheckpoint) -> None:
    """Check names and shapes against the file's header, then assign all weights."""
    path, shapes = stored.weights, stored.shapes
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    faults = {
        "missing": [name for name in expected if name not in shapes],
        "unexpected": [name for name in shapes if name not in expected],
        "of another size": [name for name in expected if name in shapes and shapes[name] != expected[name]],
    }
    if any(faults.values()):
        lines = [f"the weights in {path} do not fit the model that its manifest describes"]
        for fault, names in faults.items():
            for part, inside in _by_part(names).items():
                shown = [_sized(n, shapes, expected) if fault == "of another size" else n for n in inside[:6]]
                more = f" and {len(inside) - 6} more" if len(inside) > 6 else ""
                lines.append(f"{fault} in {part}: {', '.join(shown)}{more}")
        raise CheckpointError("\n  ".join(lines))
    try:
        tensors = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    tensors.update({name: tensors[kept] for name, kept in stored.tied.items()})
    model.load_state_dict(tensors)


def _sized(name: str, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> str:
    return f"{name} (file {shapes[name]}, model {expected[name]})"


def _by_part(names: list[str]) -> dict[str, list[str]]:
    """Names of tensors by the part they belong to: ``factors.code.encoder``, ``decoder``."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        pieces = name.split(".")
        depth = 3 if pieces[0] == "factors" else 2 if pieces[0] == "adapters" else 1
        grouped.setdefault(".".join(pieces[:depth]), []).append(name)
    return grouped
