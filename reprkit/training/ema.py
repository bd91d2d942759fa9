"""Exponential moving average (EMA) of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from reprkit.utils.sharded_tensors import gather, local_shard, shard_like


class EMA:
    """Exponential moving average of a module's trainable parameters: a ← d·a + (1 − d)·w, d = min(decay, (1 + t) / (10 + t)).

    Polyak and Juditsky 1992; the rising decay at the start is TensorFlow's.  Buffers are not averaged: they are statistics already.

    Args:
        module: whose parameters are averaged.
        decay: in (0, 1); 0.999 averages over about a thousand steps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._average = [parameter.detach().clone() for parameter in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(decay)(_local_shards(self._average), _local_shards(self._weights), self.steps)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Copy the average into the model."""
        _copy_values(self._weights, self._average)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Context in which the model has the averaged weights."""
        with torch.no_grad():
            before = [weight.clone() for weight in _local_shards(self._weights)]
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                _copy_values(self._weights, before)

    def state_dict(self, *, whole: bool = True) -> dict[str, Any]:
        """Return the average for the saved state; sharded weights are whole on rank 0, and all ranks must call it.

        ``whole=False`` returns the tensors themselves, sharded as they are; they change at the next update.
        """
        average = [gather(each).clone() if whole else each for each in self._average]
        return {"steps": self.steps, "average": average}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from ``state_dict``."""
        saved: list[Tensor] = state["average"]
        self.steps = state["steps"]
        parts = [shard_like(value, average) for value, average in zip(saved, self._average, strict=True)]
        _copy_values(self._average, parts)


def _copy_values(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(_local_shards(tensors), _local_shards(values), strict=True):
        tensor.copy_(value)


def _local_shards(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return this process's shards of the tensors, sharing their memory."""
    return [local_shard(tensor.detach()) for tensor in tensors]
