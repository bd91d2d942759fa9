"""Padding of values whose first size varies, and the mask that says what is real."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit.errors import DataError


def pad(values: Sequence[Tensor], name: str) -> tuple[Tensor, Bool[Tensor, "b t"]]:
    """One tensor (b t ...) of values (t ...) of different lengths, zeros behind the shorter ones, and which steps are real.

    Args:
        values: at least one; their lengths may differ, no other size.
        name: of the field, for messages.

    Raises:
        DataError: an empty value, or sizes that differ in more than the first.
    """
    for place, value in enumerate(values):
        if value.ndim == 0 or value.shape[1:] != values[0].shape[1:] or len(value) == 0:
            raise DataError(
                f"field {name!r} has shape {tuple(value.shape)} in example {place} and "
                f"{tuple(values[0].shape)} in example 0: only the first size may vary, and it is at least 1"
            )
    made = torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True)
    return made, length_mask(torch.tensor([len(value) for value in values]), made.shape[1])


def length_mask(lengths: Int[Tensor, " b"], steps: int) -> Bool[Tensor, "b t"]:
    """Which of ``steps`` steps are real in rows of these lengths."""
    return torch.arange(steps, device=lengths.device) < lengths.unsqueeze(1)


def pad_to_length(value: Tensor, steps: int) -> Tensor:
    """A batch (b t ...) of ``steps`` steps: zeros (False) behind; a longer one is not cut."""
    missing = steps - value.shape[1]
    return F.pad(value, [0, 0] * (value.ndim - 2) + [0, missing]) if missing > 0 else value
