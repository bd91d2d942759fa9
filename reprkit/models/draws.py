"""Several draws of the code of each example: batches and features with each example repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from reprkit.types import Batch, Features


def repeat_batch(batch: Batch, times: int) -> Batch:
    """Return a batch with each example ``times`` times in a row: (b ...) to (b*times ...)."""
    if times == 1:
        return batch
    return {name: value.repeat_interleave(times, 0) for name, value in batch.items()}


def repeat_features(features: Features, times: int) -> Features:
    """Return features with each example ``times`` times in a row: (b n d) to (b*times n d)."""
    if times == 1:
        return features
    rows: dict[str, Any] = {
        name: value.repeat_interleave(times, 0)
        for name, value in vars(features).items()
        if isinstance(value, Tensor)
    }
    return replace(features, **rows)
