"""Bernoulli likelihood of values 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.interfaces import Likelihood, require
from reprkit.likelihoods.location_scale import require_real
from reprkit.utils.precision import at_least_float32


class Bernoulli(Likelihood):
    """Probability of 1 of every element: ``logits`` (b n p).

    For a gray value between 0 and 1 the loss is the cross-entropy, as usual in the field; that is not a probability of gray values.

    Args:
        data: the signature of the data, field ``x``.

    Raises:
        PartArgumentError: the data is not within 0 and 1.
    """

    support = (0.0, 1.0)

    def __init__(self, *, data: Signature | None = None) -> None:
        super().__init__()
        require_real(data, "bernoulli")
        if data is not None:
            field = data["x"]
            within = field.range is not None and field.range[0] >= 0 and field.range[1] <= 1
            require(
                field.vocab == 2 or within,
                f"likelihood='bernoulli' needs data within [0, 1], and the range of x is "
                f"{field.range or 'not stated'}: rescale it (and set range=(0, 1) in its signature), or use gaussian",
            )

    def params(self, outputs: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``logits`` (b n p)."""
        return {"logits": outputs["linear"].squeeze(-1)}

    def nll(self, params: Mapping[str, Tensor], target: Tensor) -> Float[Tensor, "b n p"]:
        """Return the cross-entropy."""
        logits = at_least_float32(params["logits"]).expand(target.shape)
        return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")

    def point(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return the probability of 1, which is the mean."""
        return torch.sigmoid(params["logits"])

    def sample(self, params: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw 0.0 or 1.0."""
        return torch.bernoulli(torch.sigmoid(at_least_float32(params["logits"])), generator=generator)

    def temper(self, params: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
        """Divide the logits by the temperature."""
        logits = at_least_float32(params["logits"])
        if temperature:
            return {"logits": logits / temperature}
        return {"logits": torch.where(logits > 0, math.inf, -math.inf).to(logits.dtype)}
