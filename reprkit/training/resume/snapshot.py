"""Capture and restore the whole state of a run: model, optimizers, EMA, extras, random states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reprkit.errors import TrainingError
from reprkit.models.model import Model
from reprkit.training.ema import EMA
from reprkit.training.resume import optimizer_state, state
from reprkit.utils.sharded_tensors import is_sharded


def capture(
    model: Model,
    optimizers: Mapping[str, Optimizer],
    ema: EMA | None,
    extras: Mapping[str, Any],
    initial_scalars: Mapping[str, state.Scalars],
    device: torch.device,
    *,
    whole: bool = True,
) -> dict[str, Any]:
    """Return all that must be saved to continue as if the run had not been interrupted.

    With sharded weights all ranks must call it, and rank 0 gets the state.  ``whole=False`` gathers nothing: sharded tensors stay
    sharded, and all tensors are the run's own, which change at the next step.

    Args:
        model: the model being trained.
        optimizers: turn -> optimizer.
        ema: the average of the weights, if there is one.
        extras: other objects with a state.
        initial_scalars: the plain numbers of "model" and of each extra at the start.
        device: the device whose random state is captured.
        whole: gather sharded tensors.
    """
    return {
        "model": state.capture(model, initial_scalars["model"], whole=whole),
        "optimisers": {
            turn: optimizer_state.capture(optimizer, model, whole=whole)
            for turn, optimizer in optimizers.items()
        },
        "average": None if ema is None else ema.state_dict(whole=whole),
        "extras": {
            name: state.capture(extra, initial_scalars[name])
            if isinstance(extra, nn.Module)
            else extra.state_dict()
            for name, extra in extras.items()
        },
        "random": state.random_states(device),
    }


def restore(
    saved: Mapping[str, Any],
    model: Model,
    optimizers: Mapping[str, Optimizer],
    ema: EMA | None,
    extras: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Restore a captured state, under any strategy and number of processes.

    A damaged state raises errors of many kinds, and ``state.load_newest`` turns them into a ``DamagedStateError``.

    Raises:
        TrainingError: the state is of another model, optimizer or set of extras.
    """
    check_tensors(saved)
    state.restore(model, saved["model"])
    for turn, optimizer in optimizers.items():
        if turn not in saved["optimisers"]:
            raise TrainingError(f"the saved state has no optimizer for turn {turn!r}")
        optimizer_state.restore(optimizer, saved["optimisers"][turn], model, turn)
    if ema is not None and saved["average"] is not None:
        ema.load_state_dict(saved["average"])
    for name, extra in extras.items():
        if name not in saved["extras"]:
            raise TrainingError(
                f"the saved state has no extra {name!r}; it has {', '.join(saved['extras']) or 'none'}"
            )
        if isinstance(extra, nn.Module):
            state.restore(extra, saved["extras"][name])
        else:
            extra.load_state_dict(saved["extras"][name])
    state.set_random_states(saved["random"], device)


def check_tensors(saved: Any) -> None:
    """Require that every tensor of a state owns the memory of all its values; an expanded one can stand for any number of them.

    Raises:
        ValueError: one does not, or is sparse or without values.
    """
    level = [saved]
    while level:
        inner: list[Any] = []
        for value in level:
            if isinstance(value, Tensor):
                if is_sharded(value):  # allocated here, and read into
                    continue
                if value.layout != torch.strided or value.device.type != "cpu":
                    raise ValueError("a tensor in it is sparse or without values")
                if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                    raise ValueError("a tensor in it has more values than it stores")
            elif isinstance(value, Mapping):
                inner += value.values()
            elif isinstance(value, list | tuple):
                inner += value
        level = inner
