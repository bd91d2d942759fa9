"""Save and load models: a folder with ``reprkit.json`` (the manifest) and ``model.safetensors`` (the weights).  No pickle.

The model card ``README.md`` is generated beside them, so that the folder can be uploaded to a model hub as it is.

The manifest lists each part by its qualified name and constructor arguments, so that ``rk.load`` can build the model without
any import by the caller; the parts are found through the plugins.
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
from reprkit.checkpoints.allocation_limit import AllocationLimit
from reprkit.checkpoints.hub import fetch, hub_hint, parse_hub_name
from reprkit.checkpoints.manifest import describe, rebuild
from reprkit.checkpoints.manifest_check import NamedPart, walk_parts
from reprkit.checkpoints.reader import StoredCheckpoint, holds_checkpoint, locate, read
from reprkit.errors import CheckpointError, ReprkitError
from reprkit.registry.registry import default_registry
from reprkit.runs.filenames import CARD, MANIFEST, WEIGHTS
from reprkit.utils import collectives
from reprkit.utils.added_state import added_state
from reprkit.utils.atomic_files import explain_os_error, recover_folder, replace_folder
from reprkit.utils.devices import find_device
from reprkit.utils.sharded_tensors import FullStateDict

if TYPE_CHECKING:
    from reprkit.models.model import Model


class PluginVersionWarning(UserWarning):
    """A checkpoint was written with a different version of a plugin than the installed one."""


class NonFiniteWeightsWarning(UserWarning):
    """A checkpoint holds weights that are not finite."""


def save(model: Model, folder: str | Path) -> Path:
    """Save a model to a folder; with several processes all must call it, and rank 0 writes.

    An existing checkpoint is replaced atomically: a concurrent load gets either the old or the new one.  Other files in the
    folder are kept, including a README.md written or edited by hand.  The generated card also describes the run if the folder is
    a run's ``OUT/model``; ``rk.report`` adds the results.

    Args:
        model: the model.
        folder: path of the checkpoint; parent folders are created.

    Returns:
        The folder.

    Raises:
        CheckpointError: a part is not offered by any plugin, an argument cannot be represented in JSON, the folder contains
            something else, or the disk is full (the older checkpoint is then unchanged).
    """
    path = Path(folder)
    manifest = describe(model)
    weights = FullStateDict(model, separate_views=True)
    if not collectives.is_main():
        return path
    check_replaceable(path)
    try:
        with replace_folder(path, own_files=(MANIFEST, WEIGHTS)) as fresh:
            save_model(weights, str(fresh / WEIGHTS), metadata={"format": "pt"})  # type: ignore[arg-type]  # only state_dict() is used
            (fresh / MANIFEST).write_text(
                json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8"
            )
            card.add_card(fresh, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot write {path}: {explain_os_error(error)}\n  an older checkpoint there is untouched"
        ) from error
    return path


def check_replaceable(path: Path) -> None:
    """Check that a checkpoint can be written to a folder without replacing anything else.

    Raises:
        CheckpointError: it is a file, or a folder that holds something else.
    """
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path} is a file: a checkpoint is a folder")
    if path.is_dir() and any(map(_is_foreign, path.iterdir())) and not holds_checkpoint(path):
        raise CheckpointError(
            f"{path} is not empty and holds no {MANIFEST}, so it is not a checkpoint that could be replaced\n"
            f"  use a separate folder: model.save({str(path / 'model')!r})"
        )


def load(
    folder: str | Path,
    *,
    data: Any = None,
    hub: bool = False,
    revision: str | None = None,
    map_location: str | torch.device = "cpu",
) -> Model:
    """Load a model in evaluation mode (call ``.train()`` before training it by hand; ``rk.loop`` does so itself).

    No code is read from the folder: its manifest names installed parts, and is checked before any of them is imported.

    Args:
        folder: of the checkpoint, or of a run that has one in ``model/``; or ``"hub:user/name"``, a model on the hub.
        data: a data set, or its signature, whose fields differ in size from those of the model's data, such as larger pictures or
            longer sequences: the same parts for these sizes, where their weights do not depend on the size.
        hub: whether ``folder`` is the name of a model on the hub, ``"user/name"``; otherwise a path is never looked up there.
        revision: of a model on the hub: a branch, tag or commit.
        map_location: the device of the model.

    Raises:
        CheckpointError: files are missing or damaged, there is no such name here or on the hub, the format is newer, a plugin is
            not installed, the manifest names something that is not a part or not accepted there, or the weights do not fit; or
            ``data`` differs in more than size, or in the size of a part that depends on it.
        PartArgumentError: there is no such device here.
    """
    from reprkit.models.build import get_signature

    device = find_device(map_location)
    stored = read(_find(folder, hub, revision))
    path, manifest = stored.folder, stored.manifest
    _check_plugins(manifest, stored.parts, path)
    try:
        with AllocationLimit(tensor.bytes for tensor in stored.tensors.values()):
            model = rebuild(manifest, None if data is None else get_signature(data))
    except CheckpointError as error:
        raise CheckpointError(f"{path / MANIFEST}: {error}") from error
    except ReprkitError as error:
        error.add_note(f"while loading {path}")
        raise
    except torch.OutOfMemoryError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"{path / MANIFEST} is damaged: {type(error).__name__} {error}") from error
    _load_weights(model, stored, resized=data is not None)
    return model.to(device).eval()


def _is_foreign(path: Path) -> bool:
    """Whether a file would not be in a new, empty repository."""
    return path.name != CARD and not path.name.startswith(".git") and path.name != "LICENSE"


def _find(folder: str | Path, hub: bool, revision: str | None) -> Path:
    name = parse_hub_name(folder, hub)
    if name is not None:
        return fetch(name, revision)
    path = recover_folder(folder)
    if revision is not None:
        raise CheckpointError(
            f"revision={revision!r} is for a model on the hub ('hub:user/name'); {folder} is a path on this machine"
        )
    return locate(path, hint=hub_hint(folder))


def _check_plugins(manifest: Mapping[str, Any], parts: Sequence[NamedPart], folder: Path) -> None:
    """Require that every distribution the checkpoint needs offers its parts; warn once about different versions."""
    wanted: Mapping[str, str] = manifest["plugins"]
    registry = default_registry()
    installed = {
        name: [plugin for plugin in registry.plugins if plugin.distribution == name] for name in wanted
    }
    faults, different = [], []
    for name, version in wanted.items():
        if not installed[name]:
            faults.append(f"{name} {version}, which is not installed: pip install '{name}=={version}'")
        elif all(plugin.status != "ok" for plugin in installed[name]):
            plugin = installed[name][0]
            faults.append(
                f"{name} {version}; {plugin.title} is installed and {plugin.status}: {plugin.reason}"
            )
        elif name != "reprkit" and version not in {plugin.version for plugin in installed[name]}:
            different.append(f"{name} {version} (installed: {installed[name][0].version})")
    if faults:
        raise CheckpointError(f"{folder} needs {f'{chr(10)}  and '.join(faults)}")
    for part in walk_parts(parts):
        name = part.id.partition("/")[0]
        if part.id not in {found.qualified for found in registry.specs(part.kind)}:
            title = next(
                (f"{plugin.title} is installed and" for plugin in installed.get(name, ())), f"{name}"
            )
            version = wanted.get(name, "of unknown version")
            raise CheckpointError(
                f"{folder} needs {part.kind} {part.id}, written with {name} {version}; {title} does not offer it\n"
                f"  try: pip install '{name}=={version}'"
            )
    if different:
        warnings.warn(f"{folder} was written with {', '.join(different)}", PluginVersionWarning, stacklevel=3)


def _load_weights(model: Model, stored: StoredCheckpoint, *, resized: bool) -> None:
    """Check names and shapes against the file's header, then load all weights; ``resized``: the model is for other data."""
    path, shapes = stored.weights, stored.shapes
    initial, added = model.state_dict(), added_state(model)
    expected = {name: tuple(value.shape) for name, value in initial.items()}
    faults = {
        "missing": [name for name in expected if name not in shapes and name not in added],
        "unexpected": [name for name in shapes if name not in expected and name not in added],
        "of another size": [name for name in expected if name in shapes and shapes[name] != expected[name]],
    }
    if any(faults.values()):
        lines = [
            f"the model in {stored.folder} cannot be used on data of this size: some of its weights depend on the size"
            if resized
            else f"the weights in {path} do not fit the model that its manifest describes"
        ]
        for fault, names in faults.items():
            for part, inside in _group_by_part(names).items():
                shown = [
                    _describe_sizes(n, shapes, expected) if fault == "of another size" else n
                    for n in inside[:6]
                ]
                more = f" and {len(inside) - 6} more" if len(inside) > 6 else ""
                lines.append(f"{fault} in {part}: {', '.join(shown)}{more}")
        raise CheckpointError("\n  ".join(lines))
    try:
        tensors = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    tensors.update({name: tensors[source] for name, source in stored.tied.items()})
    _check_types(tensors, initial, stored)
    _warn_of_non_finite(tensors, initial, stored)
    if any(tensors[name].dtype == torch.float64 for name, _ in model.named_parameters() if name in tensors):
        model.double()
    model.load_state_dict({name: initial[name] for name in added & initial.keys()} | tensors)


def _check_types(
    tensors: Mapping[str, torch.Tensor], initial: Mapping[str, torch.Tensor], stored: StoredCheckpoint
) -> None:
    """Refuse values of another kind (integers for real numbers): the bytes would be taken for other numbers.

    A model may be saved in another precision, so real types may differ from those of a new model; but two real types of one size
    in place of one mean that the header was changed.
    """
    faults, read = [], dict[tuple[torch.dtype, int], torch.dtype]()
    for name, value in tensors.items():
        if name not in initial:
            continue
        expected = initial[name].dtype
        real = value.dtype.is_floating_point and expected.is_floating_point
        first = read.setdefault((expected, value.dtype.itemsize), value.dtype) if real else expected
        if value.dtype != first:
            faults.append(f"{name} (file {_type_name(value.dtype)}, expected {_type_name(first)})")
    if faults:
        more = f" and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise CheckpointError(
            f"{stored.weights} is damaged: it holds tensors of another type: {', '.join(faults[:6])}{more}"
        )


def _warn_of_non_finite(
    tensors: Mapping[str, torch.Tensor], initial: Mapping[str, torch.Tensor], stored: StoredCheckpoint
) -> None:
    """Name the tensors with values that are not finite, unless a new model has such values there too."""
    faults = []
    for name, value in tensors.items():
        if not value.is_floating_point() or (name in initial and not bool(initial[name].isfinite().all())):
            continue
        count = value.numel() - int(value.isfinite().sum())
        if count:
            faults.append(f"{name} ({count:,} of {value.numel():,} values)")
    if faults:
        more = f" and {len(faults) - 6} more" if len(faults) > 6 else ""
        warnings.warn(
            f"{len(faults)} of {len(tensors)} tensors in {stored.weights} are not finite: {', '.join(faults[:6])}{more}\n"
            "  the model's outputs will not be finite either; the training diverged before it was saved, or the file was changed",
            NonFiniteWeightsWarning,
            stacklevel=4,
        )


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _describe_sizes(
    name: str, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> str:
    return f"{name} (file {shapes[name]}, model {expected[name]})"


def _group_by_part(names: list[str]) -> dict[str, list[str]]:
    """Group names of tensors by the part they belong to: ``factors.code.encoder``, ``decoder``."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        pieces = name.split(".")
        depth = 3 if pieces[0] == "factors" else 2 if pieces[0] == "adapters" else 1
        grouped.setdefault(".".join(pieces[:depth]), []).append(name)
    return grouped
