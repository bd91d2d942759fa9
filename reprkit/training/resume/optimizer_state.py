"""Save and restore an optimizer's state: whole tensors, with the names of their weights.

The state then fits the same recipe under any strategy; parameter groups and sharding differ between strategies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from reprkit.errors import TrainingError
from reprkit.training.resume import optimizer_check
from reprkit.utils.sharded_tensors import gather, is_sharded, shard_like


def capture(optimizer: Optimizer, model: nn.Module, *, whole: bool = True) -> dict[str, Any]:
    """Return ``state_dict()`` with weight names, and with whole tensors on rank 0, unless ``whole`` is False.

    All ranks must call it if any tensor is sharded and is to be whole.
    """
    saved = optimizer.state_dict()
    state = {
        index: {
            key: gather(value) if whole and isinstance(value, Tensor) else value
            for key, value in entries.items()
        }
        for index, entries in saved["state"].items()
    }
    return {**saved, "state": state, "names": _names(optimizer, model)}


def restore(optimizer: Optimizer, saved: Mapping[str, Any], model: nn.Module, turn: str) -> None:
    """Restore a captured state, under any strategy.

    Raises:
        TrainingError: the state is of another optimizer, or of other parameters.
        ValueError: it is damaged.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    names, saved_names = _names(optimizer, model), [str(name) for name in saved.get("names", ())]
    state = dict(saved["state"])
    own_groups = optimizer.state_dict()["param_groups"]
    groups = saved["param_groups"]
    regrouped = saved_names != names or [len(group["params"]) for group in groups] != [
        len(group["params"]) for group in own_groups
    ]
    if saved_names and regrouped and sorted(saved_names) == sorted(names):
        positions = {name: index for index, name in enumerate(saved_names)}
        state = {
            index: state[positions[name]] for index, name in enumerate(names) if positions[name] in state
        }
        groups = own_groups
    else:
        groups = optimizer_check.check_groups(groups, own_groups)
    optimizer_check.check_state(optimizer, state, weights)
    for index, entries in state.items():
        if index < len(weights) and is_sharded(weights[index]):
            state[index] = {key: _shard_moment(value, weights[index]) for key, value in entries.items()}
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, KeyError) as error:
        raise TrainingError(f"the saved state of optimizer {turn!r} does not fit: {error}") from error


def _names(optimizer: Optimizer, model: nn.Module) -> list[str]:
    """Return the names of the weights, group by group; a weight outside of the model is named by its number."""
    known = {id(weight): name for name, weight in model.named_parameters()}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return [known.get(id(weight), f"#{number}") for number, weight in enumerate(weights)]


def _shard_moment(value: Any, weight: Tensor) -> Any:
    """Shard a saved moment like its weight; other values, such as counters, are returned as is."""
    return shard_like(value, weight) if isinstance(value, Tensor) and value.shape == weight.shape else value
