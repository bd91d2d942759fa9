"""Check a saved optimizer state before it is used: fused steps read memory by the weight's shape, whatever the state's shape."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Settings of how a step is computed, which depend on the machine and not on the run.
_OF_THE_MACHINE = ("foreach", "fused", "capturable", "differentiable")
INITIAL = "initial_settings"  # in each group, beside "initial_lr"


def check_groups(saved: Any, own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the saved groups of parameters with the settings of the machine from the optimizer's own.

    A setting that the caller has changed since the run began, such as weight decay, is the optimizer's own; one that training
    changed is the saved one.

    Raises:
        ValueError: they are other groups, or a setting is not of the type that the optimizer's own has.
    """
    if not isinstance(saved, list) or len(saved) != len(own):
        raise ValueError(f"it has other groups of parameters than the {len(own)} of the optimizer")
    groups = []
    for group, mine in zip(saved, own, strict=True):
        if not isinstance(group, dict) or not _is_list_of_integers(group.get("params")):
            raise ValueError("a group of parameters is no list of their numbers")
        for name, value in mine.items():
            ours = name in ("params", INITIAL, *_OF_THE_MACHINE)
            if name in group and not ours and not _is_alike(group[name], value):
                raise ValueError(
                    f"the setting {name!r} of the optimizer was {ascii(group[name])[:60]} and is {value!r}"
                )
        kept = {
            INITIAL,
            *(name for name in mine if name in _OF_THE_MACHINE or _was_changed(group, mine, name)),
        }
        groups.append({**mine, **group, **{name: mine[name] for name in kept if name in mine}})
    return groups


def note_settings(optimizer: Optimizer) -> None:
    """Note each group's settings at the start, so that a resume can tell the caller's changes from those of training."""
    for group in optimizer.param_groups:
        group[INITIAL] = plain_settings(group)


def plain_settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's settings that are plain values, without those of the machine, as JSON has them."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in group.items()
        if name not in ("params", "lr", "initial_lr", INITIAL, *_OF_THE_MACHINE)
        and all(
            item is None or isinstance(item, bool | int | float | str)
            for item in (value if isinstance(value, list | tuple) else [value])
        )
    }


def _was_changed(saved: Mapping[str, Any], own: Mapping[str, Any], name: str) -> bool:
    """Whether the caller has changed a setting since the run began; states of earlier versions do not say what it was."""
    now = plain_settings(own)
    if name not in now:
        return False
    before = saved.get(INITIAL, plain_settings(saved))
    return isinstance(before, Mapping) and name in before and bool(before[name] != now[name])


def check_state(optimizer: Optimizer, state: Mapping[Any, Any], weights: Sequence[Tensor]) -> None:
    """Check what is saved for each weight.

    Raises:
        ValueError: it is not what this optimizer keeps for a weight of that shape.
    """
    for index, entries in state.items():
        if type(index) is not int or not 0 <= index < len(weights) or not isinstance(entries, dict):
            raise ValueError("it has a state for a weight that the optimizer does not have")
    groups = [group for group in optimizer.param_groups for _ in group["params"]]
    expected: dict[tuple[int, int], Mapping[str, Any] | None] = {}
    for index, entries in state.items():
        weight = weights[index]
        kind = (id(groups[index]), weight.ndim)
        if kind not in expected:
            expected[kind] = _state_after_a_step(optimizer, groups[index], weight.ndim)
        _check_entries(entries, expected[kind], weight, sum(each.numel() for each in weights))


def _check_entries(
    entries: Mapping[str, Any], expected: Mapping[str, Any] | None, weight: Tensor, most: int
) -> None:
    """Check what is saved for one weight; ``most``: number of values of all weights, which L-BFGS keeps in one tensor."""
    if expected is not None and entries and entries.keys() != expected.keys():
        raise ValueError(
            f"it has {sorted(map(str, entries))} for a weight, and the optimizer keeps {sorted(expected)}"
        )
    for name, value in entries.items():
        if not isinstance(value, Tensor):
            continue
        mine = None if expected is None else expected[name]
        if isinstance(mine, Tensor) and mine.numel() == 1:
            fits = value.numel() == 1 and value.dtype == mine.dtype
        elif isinstance(mine, Tensor) and mine.shape == _shape(weight.ndim):
            fits = value.shape == weight.shape and value.is_floating_point()
        else:
            fits = value.numel() <= most
        if not fits:
            raise ValueError(
                f"its {name!r} of a weight {tuple(weight.shape)} is {tuple(value.shape)}, {value.dtype}"
            )
    if expected is not None and any(
        isinstance(expected[name], Tensor) != isinstance(entries[name], Tensor) for name in entries
    ):
        raise ValueError("it has tensors where the optimizer keeps numbers, or the other way round")


def _state_after_a_step(
    optimizer: Optimizer, group: Mapping[str, Any], ndim: int
) -> Mapping[str, Any] | None:
    """Return what the optimizer keeps for a small weight after a step; None where it cannot be tried, as with closures."""
    weight = nn.Parameter(torch.zeros(_shape(ndim)))
    weight.grad = torch.zeros_like(weight)
    trial = copy.copy(optimizer)
    trial.param_groups, trial.state = [{**group, "params": [weight]}], defaultdict(dict)
    try:
        trial.step()
    except Exception:  # of a foreign class: nothing is known of its state then
        return None
    return trial.state[weight] or None


def _shape(ndim: int) -> tuple[int, ...]:
    return tuple(range(2, 2 + ndim))


def _is_list_of_integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _is_alike(saved: Any, own: Any) -> bool:
    """Whether a setting may be replaced by the saved one: a finite number by one, another value by an equal one."""
    if isinstance(own, list | tuple):
        same = isinstance(saved, list | tuple) and len(saved) == len(own)
        return same and all(_is_alike(a, b) for a, b in zip(saved, own, strict=True))
    if isinstance(own, Tensor) or isinstance(saved, Tensor):
        return isinstance(own, Tensor) and isinstance(saved, Tensor) and own.shape == saved.shape
    if isinstance(own, bool) or not isinstance(own, int | float):
        return type(saved) is type(own) and bool(saved == own)
    return isinstance(saved, int | float) and not isinstance(saved, bool) and math.isfinite(saved)
