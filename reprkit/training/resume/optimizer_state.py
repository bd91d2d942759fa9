"""An optimiser's state as it is saved: whole tensors, by the names of their weights.

So it fits the same recipe under any strategy: which weights are in which group, and what is cut, differs between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from reprkit.errors import TrainingError
from reprkit.training.fsdp import gather, is_sharded, shard_like


def capture(optimizer: Optimizer, model: nn.Module) -> dict[str, Any]:
    """``state_dict()`` with whole tensors (on rank 0), and the weights' names; all ranks must call it if any is cut."""
    saved = optimizer.state_dict()
    state = {
        index: {key: gather(value) if isinstance(value, Tensor) else value for key, value in kept.items()}
        for index, kept in saved["state"].items()
    }
    return {**saved, "state": state, "names": _names(optimizer, model)}


def restore(optimizer: Optimizer, saved: Mapping[str, Any], model: nn.Module, turn: str) -> None:
    """The inverse of ``capture``, under whatever strategy.

    Raises:
        TrainingError: it is another optimiser, or holds other parameters.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    mine, theirs = _names(optimizer, model), list(saved.get("names", ()))
    state, groups = dict(saved["state"]), saved["param_groups"]
    own = optimizer.state_dict()["param_groups"]
    moved = theirs != mine or [len(each["params"]) for each in groups] != [
        len(each["params"]) for each in own
    ]
    if theirs and moved and sorted(theirs) == sorted(mine):
        place = {name: index for index, name in enumerate(theirs)}
        state = {index: state[place[name]] for index, name in enumerate(mine) if place[name] in state}
        groups = own
    for index, kept in state.items():
        if index < len(weights) and is_sharded(weights[index]):
            state[index] = {key: _cut(value, weights[index]) for key, value in kept.items()}
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, KeyError) as error:
        raise TrainingError(f"the saved state of optimiser {turn!r} does not fit: {error}") from error


def _names(optimizer: Optimizer, model: nn.Module) -> list[str]:
    """Of the weights, group by group; what is not the model's has its number."""
    known = {id(weight): name for name, weight in model.named_parameters()}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return [known.get(id(weight), f"#{number}") for number, weight in enumerate(weights)]


def _cut(value: Any, weight: Tensor) -> Any:
    """A saved moment as the weight is cut; counters and such as they are."""
    return shard_like(value, weight) if isinstance(value, Tensor) and value.shape == weight.shape else value
