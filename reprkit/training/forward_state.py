"""What a training forward changes besides gradients: a model's state, and the random states; to compute a step again."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Set
from typing import Any

import torch
from torch import Tensor, nn

from reprkit.training.resume import state
from reprkit.utils.sharded_tensors import local_shard


class ForwardState:
    """A copy of what a training forward may change in a model: buffers, numbers, collected statistics; no parameters."""

    def __init__(self, model: nn.Module) -> None:
        # A view of a weight changes with the weight, which belongs to the optimizer.
        weights = {_storage(weight) for weight in model.parameters()}
        self._saved = [
            (
                module,
                {key: _restorer(value, weights) for key, value in vars(module).items() if key not in _FIXED},
            )
            for module in model.modules()
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back."""
        for module, attributes in self._saved:
            now = vars(module)
            for key in [key for key in now if key not in attributes and key not in _FIXED]:
                del now[key]
            for key, restored in attributes.items():
                now[key] = restored()


# Attributes of every module that a forward does not change: modes, hooks, parameters (FSDP exchanges them), other modules.
_FIXED = frozenset(vars(nn.Module())) - {"_buffers"}


def _storage(tensor: Tensor) -> int:
    return local_shard(tensor).untyped_storage().data_ptr()


def _restorer(value: Any, weights: Set[int]) -> Callable[[], Any]:
    """Return a function that restores an attribute's present content, in place, and returns the same object.

    Args:
        value: the attribute.
        weights: the storages of the parameters, whose content is left as it is.
    """
    items = (
        list(value.values() if isinstance(value, dict) else value)
        if isinstance(value, _CONTAINERS)
        else [value]
    )
    if any(isinstance(item, nn.Parameter) for item in items):
        return lambda: value
    tensors = [
        (item, item.detach().clone())
        for item in items
        if isinstance(item, Tensor) and _storage(item) not in weights
    ]
    content = copy.copy(value) if isinstance(value, _CONTAINERS) else None

    def restored() -> Any:
        for tensor, copied in tensors:
            tensor.detach().copy_(copied)
        if content is not None:
            value.clear()
            (value.extend if isinstance(value, list | deque) else value.update)(content)
        return value

    return restored


_CONTAINERS = (list, dict, set, deque)


def random_states(model: nn.Module, device: torch.device) -> dict[str, Any]:
    """Return the states of the global generators, and of those that the model's modules own."""
    own = {name: generator.get_state() for name, generator in state.generators_of(model).items()}
    return {"global": state.random_states(device), "own": own}


def set_random_states(model: nn.Module, states: dict[str, Any], device: torch.device) -> None:
    """Restore ``random_states``."""
    state.set_random_states(states["global"], device)
    for name, generator in state.generators_of(model).items():
        if name in states["own"]:
            generator.set_state(states["own"][name])
