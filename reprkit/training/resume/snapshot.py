"""All that a run is made of at one moment, and back: model, optimisers, average, extras, random states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from reprkit.errors import TrainingError
from reprkit.models.model import Model
from reprkit.training.ema import EMA
from reprkit.training.resume import optimizer_state, state


def capture(
    model: Model,
    optimizers: Mapping[str, Optimizer],
    average: EMA | None,
    extras: Mapping[str, Any],
    before: Mapping[str, state.Scalars],
    device: torch.device,
) -> dict[str, Any]:
    """All that must be saved to go on as if nothing had happened.

    Where weights are cut (``strategy="fsdp"``) all ranks must call it, and rank 0 gets what is to be saved.

    Args:
        model: as it is trained.
        optimizers: turn -> optimizer.
        average: of the weights, if one is kept.
        extras: what else has a state.
        before: the plain numbers of "model" and of each extra at the start.
        device: whose random state counts.
    """
    return {
        "model": state.capture(model, before["model"]),
        "optimisers": {turn: optimizer_state.capture(each, model) for turn, each in optimizers.items()},
        "average": None if average is None else average.state_dict(),
        "extras": {
            name: state.capture(each, before[name]) if isinstance(each, nn.Module) else each.state_dict()
            for name, each in extras.items()
        },
        "random": state.random_states(device),
    }


def restore(
    saved: Mapping[str, Any],
    model: Model,
    optimizers: Mapping[str, Optimizer],
    average: EMA | None,
    extras: Mapping[str, Any],
    device: torch.device,
) -> None:
    """The inverse of ``capture``, under any strategy and number of processes.

    Raises:
        TrainingError: the state is of another model, optimiser or set of extras.
    """
    state.restore(model, saved["model"])
    for turn, optimizer in optimizers.items():
        if turn not in saved["optimisers"]:
            raise TrainingError(f"the saved state has no optimiser for turn {turn!r}")
        optimizer_state.restore(optimizer, saved["optimisers"][turn], model, turn)
    if average is not None and saved["average"] is not None:
        average.load_state_dict(saved["average"])
    for name, each in extras.items():
        if name not in saved["extras"]:
            raise TrainingError(
                f"the saved state has no extra {name!r}; it has {', '.join(saved['extras']) or 'none'}"
            )
        if isinstance(each, nn.Module):
            state.restore(each, saved["extras"][name])
        else:
            each.load_state_dict(saved["extras"][name])
    state.set_random_states(saved["random"], device)
