"""Padding of ragged tensors, and the mask of valid steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit.errors import DataError


def pad(values: Sequence[Tensor], name: str) -> tuple[Tensor, Bool[Tensor, "b t"]]:
    """Pad values (t ...) of different lengths with zeros at the end; return the tensor (b t ...) and the mask of valid steps.

    Args:
        values: at least one; only their first dimension may differ.
        name: of the field, for messages.

    Raises:
        DataError: an empty value, or shapes that differ in more than the first dimension.
    """
    for index, value in enumerate(values):
        if value.ndim == 0 or value.shape[1:] != values[0].shape[1:] or len(value) == 0:
            raise DataError(
                f"field {name!r} has shape {tuple(value.shape)} in example {index} and "
                f"{tuple(values[0].shape)} in example 0: only the first dimension may vary, and it must be at least 1"
            )
    batch = torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True)
    return batch, length_mask(torch.tensor([len(value) for value in values]), batch.shape[1])


def length_mask(lengths: Int[Tensor, " b"], steps: int) -> Bool[Tensor, "b t"]:
    """Return the mask of valid steps for rows of these lengths, ``steps`` wide."""
    return torch.arange(steps, device=lengths.device) < lengths.unsqueeze(1)


def broadcast_mask(mask: Bool[Tensor, "b t"], x: Tensor) -> Bool[Tensor, "b ..."]:
    """Reshape a mask of steps (b t) to broadcast over ``x`` (b t ...), on its device."""
    return mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)).to(x.device)


def pad_to_length(value: Tensor, steps: int) -> Tensor:
    """Pad a batch (b t ...) to ``steps`` steps with zeros (False) at the end; a longer one is not cut."""
    missing = steps - value.shape[1]
    return F.pad(value, [0, 0] * (value.ndim - 2) + [0, missing]) if missing > 0 else value
