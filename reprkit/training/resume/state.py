"""Saved states on disk: weights, optimizers, random states, position; the newest complete one is resumed.

::

    OUT/state/step-000001200/state.json     position, seed, size of the metrics, ..., and the digest of both files
    OUT/state/step-000001200/tensors.pt     tensors and numbers only (read with weights_only=True: no code is run)

A sharded state has a file a rank besides, see ``part_files.py``.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprkit.errors import TrainingError
from reprkit.runs.record_check import BEST
from reprkit.training.resume import division
from reprkit.utils.added_state import added_state
from reprkit.utils.atomic_files import explain_os_error, put_in_place, recover_folder, replace_folder
from reprkit.utils.json_shape import Each, Either, Items, Needed, check_shape
from reprkit.utils.sharded_tensors import gather, shard_like
from reprkit.utils.untrusted_json import read_json

FORMAT, SHARDED_FORMAT = 1, 2  # of a gathered state, and of a sharded one
_PLAIN = bool | int | float | str
_META, _TENSORS, _DIGEST = "state.json", "tensors.pt", "sha256"
FIRST_PART = "part-00000.safetensors"  # of a sharded state
_NORM_MONITOR = {
    "norms": Needed(Items(Needed(float))),
    "limit": float,
    "high": Needed(Either(int, Items(Needed(float)))),
    "seen": Needed(int),
    "told": Needed(bool),
}
_METADATA = {
    "step": Needed(int),
    "seconds": Needed(float),
    "waited": Each(Needed(float)),
    "metrics_size": int,
    "options": Needed({"data": dict}),
    "watch": {
        "norms": Each(Needed(_NORM_MONITOR)),
        "ranks": Each(Needed(Items(Needed(object), length=2))),
    },
    "best": BEST,
    "parts": Items(Needed({"name": Needed(str), "bytes": Needed(int), "sha256": Needed(str)})),
}
_STATE = Needed(
    {
        "model": Needed(dict),
        "optimisers": Needed(dict),
        "average": dict,
        "extras": Needed(dict),
        "random": Needed(dict),
        "loss_scaling": {"scale": Needed(float), "steps": Needed(int), "skipped": Needed(int)},
    }
)

Scalars = dict[str, dict[str, Any]]


# ------------------------------------------------------------------ random states


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators (on all devices): alike on all ranks, as ``collectives.global_draw`` needs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of the global generators."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    states = {
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        "numpy": [
            name,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Restore ``random_states``; states of devices that the machine lacks are ignored."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


# ------------------------------------------------------------------ modules


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, including buffers that a checkpoint omits (usage windows)."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def scalars_of(module: nn.Module) -> Scalars:
    """Return the plain numbers, flags and strings that modules keep as attributes: step counters, temperatures."""
    scalars: Scalars = {}
    for name, submodule in module.named_modules():
        values = {k: v for k, v in vars(submodule).items() if isinstance(v, _PLAIN) and k != "training"}
        if values:
            scalars[name] = values
    return scalars


def changed_scalars(now: Scalars, before: Scalars) -> Scalars:
    """Return the scalars that training changed; the rest are settings, which belong to the recipe."""
    scalars: Scalars = {}
    for name, values in now.items():
        old = before.get(name, {})
        new = {k: v for k, v in values.items() if k not in old or type(old[k]) is not type(v) or old[k] != v}
        if new:
            scalars[name] = new
    return scalars


def generators_of(module: nn.Module) -> dict[str, torch.Generator]:
    """Return the random generators that modules own."""
    return {
        f"{name}:{key}": value
        for name, submodule in module.named_modules()
        for key, value in vars(submodule).items()
        if isinstance(value, torch.Generator)
    }


def capture(module: nn.Module, before: Scalars, *, whole: bool = True) -> dict[str, Any]:
    """Return a module's whole state.

    Args:
        module: the module.
        before: its ``scalars_of`` at the start.
        whole: gather sharded tensors on rank 0, for which all ranks must call it; otherwise they stay sharded.
    """
    return {
        "tensors": {name: gather(tensor) if whole else tensor for name, tensor in tensors_of(module).items()},
        "scalars": changed_scalars(scalars_of(module), before),
        "generators": {name: generator.get_state() for name, generator in generators_of(module).items()},
    }


@torch.no_grad()
def restore(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Restore a captured state, in place.

    Raises:
        TrainingError: the module and the state have different tensors, or the state sets an attribute other than a plain number,
            flag or string.
    """
    own = tensors_of(module)
    saved: Mapping[str, Tensor] = state["tensors"]
    added = added_state(module)
    faults = [f"{name} is new" for name in own if name not in saved and name not in added]
    faults += [f"{name} is missing" for name in saved if name not in own]
    faults += [
        f"{name} was {tuple(saved[name].shape)} and is {tuple(own[name].shape)}"
        for name in own
        if name in saved and own[name].shape != saved[name].shape
    ]
    if faults:
        more = f", and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise TrainingError(
            f"the saved state is of another model: {', '.join(faults[:8])}{more}\n"
            "  build the same model, or start again: resume=False or another out="
        )
    for name, tensor in own.items():
        if name in saved:
            tensor.copy_(shard_like(saved[name], tensor))
    modules = dict(module.named_modules())
    for name, values in state["scalars"].items():
        for key, value in values.items():
            if name in modules:
                _set_scalar(modules[name], name, key, value)
    for name, generator in generators_of(module).items():
        if name in state["generators"]:
            generator.set_state(state["generators"][name])


def _set_scalar(module: nn.Module, name: str, key: str, value: Any) -> None:
    """Set a number, flag or string; never a method, property, tensor or module, since a state may be hostile."""
    for table in ("renamed_arguments", "renamed_attributes"):  # states written under a former name
        key = getattr(type(module), table, {}).get(key, key)
    before = inspect.getattr_static(module, key, None)
    registered = key in module._parameters or key in module._buffers or key in module._modules
    plain = isinstance(value, _PLAIN) and (before is None or _is_alike(before, value))
    if not plain or registered or key.startswith("__"):
        raise TrainingError(
            f"the saved state sets {key!r} of {name or 'the model'}, which is not a plain number, flag or string there\n"
            "  the state is damaged or of another model; start again: resume=False or another out="
        )
    object.__setattr__(module, key, value)


def _is_alike(before: Any, value: Any) -> bool:
    """Whether both are strings, or both are numbers or flags."""
    return isinstance(before, _PLAIN) and isinstance(before, str) == isinstance(value, str)


# ------------------------------------------------------------------ on disk


def save(
    folder: Path, step: int, metadata: Mapping[str, Any], state: Mapping[str, Any], keep: int = 1
) -> Path:
    """Write a gathered state and its digest atomically, then remove all but the newest ``keep``.

    Raises:
        TrainingError: it cannot be written; the older states are unchanged.
    """
    path = state_path(folder, step)
    try:
        with replace_folder(path) as fresh:
            torch.save(dict(state), fresh / _TENSORS)
            write_metadata(fresh, {"format": FORMAT, "step": step, **metadata})
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise TrainingError(unwritten(path, error)) from error
    remove_older(path, keep)
    return path


def save_rest(fresh: Path, step: int, metadata: Mapping[str, Any], rest: bytes, keep: int) -> None:
    """Complete a sharded state: write what is not in the parts, make it visible, then remove all but the newest ``keep``.

    Args:
        fresh: the temporary folder, with the parts.
        step: of the state.
        metadata: with the parts.
        rest: the state without the divided tensors, as ``tensors.pt`` holds it.
        keep: number of states.

    Raises:
        OSError: it cannot be written; the older states are unchanged.
    """
    path = state_path(fresh.parent, step)
    (fresh / _TENSORS).write_bytes(rest)
    write_metadata(fresh, {"format": SHARDED_FORMAT, "step": step, **metadata})
    put_in_place(fresh, path)
    shutil.rmtree(fresh, ignore_errors=True)  # the state of the same step that it replaced
    remove_older(path, keep)


def state_path(folder: Path, step: int) -> Path:
    """Return the folder of a state."""
    return folder / f"step-{step:09d}"


def unwritten(path: Path, error: BaseException) -> str:
    """Return the message of a state that cannot be written."""
    return f"cannot save the state at step {int(path.name[5:])} to {path}: {explain_os_error(error)}; older states are untouched"


def write_metadata(fresh: Path, record: dict[str, Any]) -> None:
    """Write a state's metadata, with the digest of itself and of the tensors beside it."""
    record = {**record, _DIGEST: _digest(record, fresh / _TENSORS)}
    (fresh / _META).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def remove_older(path: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` states, and never this one."""
    for old in list_saved(path.parent)[keep:]:
        if old != path:
            shutil.rmtree(old, ignore_errors=True)


def list_saved(folder: Path) -> list[Path]:
    """Return the folders of complete states, newest first, after undoing a replacement that a kill interrupted."""
    if not folder.is_dir():
        return []
    for old in folder.glob(".step-*.old"):
        recover_folder(folder / old.name.removeprefix(".").removesuffix(".old"))
    paths = [
        path for path in folder.glob("step-*") if (path / _META).is_file() and (path / _TENSORS).is_file()
    ]
    return sorted(paths, key=lambda path: path.name, reverse=True)


class DamagedStateError(TrainingError):
    """A saved state is not what was written."""


@dataclass(frozen=True)
class Ranks:
    """How several processes read a sharded state together.

    Attributes:
        rank: of this process.
        ranks: number of processes.
        parameters: the model's, some of them sharded.
        agree: called with a step and whether this process finds its state damaged; returns whether any process does, and
            raises if another one reads the state of another step.
    """

    rank: int = 0
    ranks: int = 1
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    agree: Callable[[int, bool], bool] = lambda step, damaged: damaged

    def attempt(self, path: Path, action: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``action`` returns; if it finds the state damaged on any process, all raise DamagedStateError."""
        damage, result = None, None
        try:
            result = action(*arguments)
        except DamagedStateError as error:
            damage = error
        step = int(path.name[5:]) if path.name[5:].isdecimal() else 0
        if self.agree(step, damage is not None):
            raise damage or DamagedStateError("another process finds it damaged")
        return result


def load_newest(
    folder: Path,
    restore: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
    ranks: Ranks | None = None,
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Load the newest state that is not damaged, as (metadata, state), and warn of those that are; None if there are no states.

    Args:
        folder: of the states.
        restore: called with the metadata and the state; a state that it cannot use is damaged.
        ranks: the processes that call this; each reads its shards of a sharded state, and they use the same one.

    Raises:
        TrainingError: there are states and all are damaged; one was written by a newer reprkit; or what ``restore`` raises on
            purpose, such as for the state of another model.
    """
    damaged: list[str] = []
    for path in list_saved(folder):
        together = ranks if ranks is not None and (path / FIRST_PART).is_file() else Ranks()
        try:
            metadata, saved = together.attempt(path, read_state, path, together)
            if restore is not None:
                together.attempt(path, _restore, restore, metadata, saved)
        except DamagedStateError as error:
            damaged.append(f"{path}: {error}")
            continue
        if damaged:
            warnings.warn(
                f"resuming from {path}, since a newer state is damaged ({'; '.join(damaged)})", stacklevel=5
            )
        return metadata, saved
    if damaged:
        raise TrainingError(f"no saved state can be read: {'; '.join(damaged)}\n  start again: resume=False")
    return None


def _restore(
    restore: Callable[[dict[str, Any], dict[str, Any]], None], metadata: dict[str, Any], saved: dict[str, Any]
) -> None:
    try:
        restore(metadata, saved)
    except (TrainingError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # edited states raise many kinds
        raise DamagedStateError(_describe(error)) from error


def read_state(path: Path, ranks: Ranks | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a state, as (metadata, state).

    Args:
        path: of the state.
        ranks: the processes that read it; each checks the digests of its share of the parts, and reads its shards.

    Raises:
        DamagedStateError: it does not match its digests, or is not a state.
        TrainingError: it was written by a newer reprkit.
    """
    try:
        metadata = read_json(path / _META)
        _check_metadata(metadata, path)
        digest = metadata.pop(_DIGEST, None)  # earlier versions wrote none
        if digest is not None and digest != _digest(metadata, path / _TENSORS):
            raise DamagedStateError("its digest does not match: it was changed after it was written")
        state = torch.load(path / _TENSORS, map_location="cpu", weights_only=True)
        check_shape(state, _STATE)
        if metadata.get("parts") is not None:
            state = _read_parts(path, metadata["parts"], state, ranks or Ranks())
    except TrainingError:
        raise
    except Exception as error:  # zip, pickle, JSON and torch raise many kinds for damaged bytes
        raise DamagedStateError(_describe(error)) from error
    return metadata, state


def _read_parts(
    path: Path, parts: list[dict[str, Any]], rest: dict[str, Any], ranks: Ranks
) -> dict[str, Any]:
    from reprkit.training.resume import part_files  # imports torch.distributed.checkpoint

    names = [part["name"] for part in parts]
    if names != [part_files.part_name(number) for number in range(len(names))]:
        raise DamagedStateError("its parts have other names than those of a state")
    damage = part_files.damaged_part(path, parts[ranks.rank :: ranks.ranks])
    if damage is not None:
        raise DamagedStateError(damage)
    wanted = {key: ranks.parameters.get(of or "") for key, of in division.entries_of(rest)}
    return division.join(rest, part_files.read_parts(path, names, wanted))


def _check_metadata(metadata: Any, path: Path) -> None:
    version = metadata.get("format") if isinstance(metadata, dict) else None
    if type(version) is not int:
        raise DamagedStateError("it states no format number")
    if version > SHARDED_FORMAT:
        raise TrainingError(f"{path} was written by a newer reprkit: upgrade this one to resume from it")
    check_shape(metadata, _METADATA)
    if path.name != f"step-{metadata['step']:09d}":
        raise DamagedStateError(f"it states step {metadata['step']}")
    if (version == SHARDED_FORMAT) != (metadata.get("parts") is not None):
        raise DamagedStateError("its format is not that of its files")
    if (metadata.get("metrics_size") or 0) < 0:
        raise DamagedStateError("the size of its metrics is negative")


def _digest(metadata: Mapping[str, Any], tensors: Path) -> str:
    """Return the SHA-256 of a state's metadata, without the digest itself, and tensors."""
    plain = json.loads(json.dumps({key: value for key, value in metadata.items() if key != _DIGEST}))
    with tensors.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(plain, sort_keys=True).encode())
    return digest.hexdigest()


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
