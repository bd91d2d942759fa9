"""A model's output beside what it should equal: the step that reconstruction error and galleries share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.objectives.scoring import decoded_for, validity
from reprkit.types import Batch, Codes, Decoded

if TYPE_CHECKING:
    from reprkit.model import Model


@dataclass(frozen=True)
class Output:
    """What a model made of a batch: the decoder's tokens, their target, and which elements are real.

    Attributes:
        decoded: the likelihood, x (b n p).
        target: what x should equal (b n p).
        weight: 1 where an element is real, 0 where it is padding (b n p), float32.
        codes: None for a model without encoder.
    """

    decoded: Decoded
    target: Tensor
    weight: Float[Tensor, "b n p"]
    codes: Codes | None


def output(model: Model, batch: Batch) -> Output:
    """Encode and decode a batch in evaluation mode; a causal decoder reads the target as its teacher.

    Raises:
        BuildError: the model has no decoder.
    """
    batch = model.to_device(batch)
    return scored(model, batch, model.encode(batch) if len(model.factors) else None)


def scored(model: Model, batch: Batch, codes: Codes | None) -> Output:
    """Decode given codes of a batch, beside what the output should equal.

    Raises:
        BuildError: the model has no decoder.
    """
    decoded = decoded_for(model, codes, batch)
    target = model.target(batch, decoded)
    weight = validity(model, batch, decoded)
    if weight is None:
        weight = torch.ones(target.shape, device=target.device)
    return Output(decoded, target, weight, codes)
