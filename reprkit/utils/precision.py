"""Computation in float32, or float64, regardless of the loop's autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

_NULL_CONTEXT: AbstractContextManager[None] = nullcontext()


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Context that disables autocast; costs nothing where autocast is off, since it is used several times a step."""
    enabled = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if enabled else _NULL_CONTEXT


def at_least_float32(x: Tensor) -> Tensor:
    """Return real values in float32, or unchanged in float64."""
    return x if x.dtype == torch.float64 else x.float()


def to_float64(x: Tensor) -> Tensor:
    """Convert to float64, on the CPU if the device does not support it."""
    return (x.cpu() if x.device.type == "mps" else x).double()
