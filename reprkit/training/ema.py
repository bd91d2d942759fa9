"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from reprkit.training.fsdp import gather, local_shard, shard_like


class EMA:
    """The average that forgets by ``decay`` a step: a ← d·a + (1 − d)·w, d rising as min(decay, (1 + t) / (10 + t)).

    Polyak and Juditsky 1992; the rising start is TensorFlow's.  Buffers are not averaged: they are statistics already.

    Args:
        module: whose parameters.
        decay: in (0, 1); 0.999 looks back over about a thousand steps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._average = [parameter.detach().clone() for parameter in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into account."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(decay)(_local_shards(self._average), _local_shards(self._weights), self.steps)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Put the average into the model."""
        _copy_values(self._weights, self._average)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The model with the average in it, for the time of a block."""
        with torch.no_grad():
            before = [weight.clone() for weight in _local_shards(self._weights)]
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                _copy_values(self._weights, before)

    def state_dict(self) -> dict[str, Any]:
        """The average, for the saved state; where weights are cut, whole on rank 0, and all ranks must call it."""
        return {"steps": self.steps, "average": [gather(each).clone() for each in self._average]}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        saved: list[Tensor] = state["average"]
        self.steps = state["steps"]
        parts = [shard_like(each, mine) for each, mine in zip(saved, self._average, strict=True)]
        _copy_values(self._average, parts)


def _copy_values(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for mine, value in zip(_local_shards(tensors), _local_shards(values), strict=True):
        mine.copy_(value)


def _local_shards(tensors: Sequence[Tensor]) -> list[Tensor]:
    """What this process holds of them, with the same memory."""
    return [local_shard(each.detach()) for each in tensors]
