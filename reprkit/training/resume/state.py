"""What resuming needs, on disk: weights, optimisers, random states, position; the newest complete one wins.

::

    OUT/state/step-000001200/state.json     position, seed, size of the metrics, ...: small and readable
    OUT/state/step-000001200/tensors.pt     tensors and numbers only (read with weights_only=True: no code is run)
"""

from __future__ import annotations

import inspect
import json
import pickle
import random
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprkit.errors import TrainingError
from reprkit.training.fsdp import gather, shard_like
from reprkit.utils.atomic_files import replacing, why

FORMAT = 1
_PLAIN = bool | int | float | str
_META, _TENSORS = "state.json", "tensors.pt"

Scalars = dict[str, dict[str, Any]]


# ------------------------------------------------------------------ random states


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators (on all devices): alike on all ranks, as ``distributed.joined`` needs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of the global generators."""
    version, words, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state()
    states = {
        "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        "numpy": [
            name,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(place),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """The inverse of ``random_states``; what the machine lacks is passed over."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, place, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


# ------------------------------------------------------------------ modules


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name, the buffers that a checkpoint leaves out (usage windows) too."""
    return {name: each.detach() for name, each in (*module.named_parameters(), *module.named_buffers())}


def scalars_of(module: nn.Module) -> Scalars:
    """The plain numbers, flags and texts that modules keep as attributes: step counters, temperatures."""
    found: Scalars = {}
    for name, each in module.named_modules():
        kept = {k: v for k, v in vars(each).items() if isinstance(v, _PLAIN) and k != "training"}
        if kept:
            found[name] = kept
    return found


def changed_scalars(now: Scalars, before: Scalars) -> Scalars:
    """Those that training changed; the rest are settings, which belong to the recipe."""
    found: Scalars = {}
    for name, kept in now.items():
        old = before.get(name, {})
        moved = {k: v for k, v in kept.items() if k not in old or type(old[k]) is not type(v) or old[k] != v}
        if moved:
            found[name] = moved
    return found


def generators_of(module: nn.Module) -> dict[str, torch.Generator]:
    """The random generators that modules own."""
    return {
        f"{name}:{key}": value
        for name, each in module.named_modules()
        for key, value in vars(each).items()
        if isinstance(value, torch.Generator)
    }


def capture(module: nn.Module, before: Scalars) -> dict[str, Any]:
    """A module's whole state; ``before`` are its ``scalars_of`` at the start.  What is cut, rank 0 gets whole."""
    return {
        "tensors": {name: gather(each) for name, each in tensors_of(module).items()},
        "scalars": changed_scalars(scalars_of(module), before),
        "generators": {name: each.get_state() for name, each in generators_of(module).items()},
    }


@torch.no_grad()
def restore(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Put a captured state back, in place.

    Raises:
        TrainingError: the module has other tensors than the state, or the state sets what is no plain number, flag or text.
    """
    mine = tensors_of(module)
    saved: Mapping[str, Tensor] = state["tensors"]
    faults = [f"{name} is new" for name in mine if name not in saved]
    faults += [f"{name} is gone" for name in saved if name not in mine]
    faults += [
        f"{name} was {tuple(saved[name].shape)} and is {tuple(mine[name].shape)}"
        for name in mine
        if name in saved and mine[name].shape != saved[name].shape
    ]
    if faults:
        more = f", and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise TrainingError(
            f"the saved state is of another model: {', '.join(faults[:8])}{more}\n"
            "  build the model as it was, or start anew: resume=False or another out="
        )
    for name, tensor in mine.items():
        tensor.copy_(shard_like(saved[name], tensor))
    modules = dict(module.named_modules())
    for name, kept in state["scalars"].items():
        for key, value in kept.items():
            if name in modules:
                _set_scalar(modules[name], name, key, value)
    for name, generator in generators_of(module).items():
        if name in state["generators"]:
            generator.set_state(state["generators"][name])


def _set_scalar(module: nn.Module, name: str, key: str, value: Any) -> None:
    """Set a number, flag or text; never a method, a property, a tensor or a module, whoever wrote the state."""
    key = getattr(type(module), "renamed_arguments", {}).get(
        key, key
    )  # an attribute that was renamed with its argument
    before = inspect.getattr_static(module, key, None)
    registered = key in module._parameters or key in module._buffers or key in module._modules
    plain = isinstance(value, _PLAIN) and (before is None or isinstance(before, _PLAIN))
    if not plain or registered or key.startswith("__"):
        raise TrainingError(
            f"the saved state sets {key!r} of {name or 'the model'}, which is no plain number, flag or text there\n"
            "  the state is damaged or of another model; start anew: resume=False or another out="
        )
    object.__setattr__(module, key, value)


# ------------------------------------------------------------------ on disk


def save(folder: Path, step: int, facts: Mapping[str, Any], state: Mapping[str, Any], keep: int = 1) -> Path:
    """Write a state, complete before it gets its name; then remove all but the newest ``keep``.

    Raises:
        TrainingError: it cannot be written; the older states are as they were.
    """
    place = folder / f"step-{step:09d}"
    try:
        with replacing(place) as fresh:
            torch.save(dict(state), fresh / _TENSORS)
            (fresh / _META).write_text(
                json.dumps({"format": FORMAT, "step": step, **facts}, indent=1) + "\n", encoding="utf-8"
            )
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise TrainingError(
            f"cannot save the state at step {step} to {place}: {why(error)}; older states are untouched"
        ) from error
    for old in list_saved(folder)[keep:]:
        if old != place:
            shutil.rmtree(old, ignore_errors=True)
    return place


def list_saved(folder: Path) -> list[Path]:
    """The complete states, newest first."""
    if not folder.is_dir():
        return []
    found = [
        each for each in folder.glob("step-*") if (each / _META).is_file() and (each / _TENSORS).is_file()
    ]
    return sorted(found, key=lambda each: each.name, reverse=True)


def load_newest(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The newest state that can be read, as (facts, state); None when there is none at all.

    Raises:
        TrainingError: there are states, and none can be read.
    """
    complaints = []
    for place in list_saved(folder):
        try:
            facts = json.loads((place / _META).read_text(encoding="utf-8"))
            if facts["format"] > FORMAT:
                raise TrainingError(
                    f"{place} was written by a newer reprkit: upgrade this one to resume from it"
                )
            state = torch.load(place / _TENSORS, map_location="cpu", weights_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            complaints.append(f"{place}: {error}")
            continue
        if complaints:
            warnings.warn(
                f"going on from {place}, since a newer state is damaged ({complaints[0]})", stacklevel=4
            )
        return facts, state
    if complaints:
        raise TrainingError(
            f"no saved state can be read: {'; '.join(complaints)}\n  start anew: resume=False"
        )
    return None
