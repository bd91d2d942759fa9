"""Categorical likelihood of symbols."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.interfaces import Likelihood, require
from reprkit.layers.value_embedding import count_symbols
from reprkit.utils.precision import at_least_float32


def keep_most_likely(logits: Float[Tensor, "*shape k"]) -> Float[Tensor, "*shape k"]:
    """Return logits with all probability on the largest one, the first of equals."""
    best = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, logits.argmax(-1, keepdim=True), True)
    return torch.where(best, 0.0, -math.inf).to(logits.dtype)


def draw_symbols(logits: Float[Tensor, "*shape k"], generator: torch.Generator | None) -> Tensor:
    """Draw one int64 symbol from each softmax."""
    probs = torch.softmax(logits, -1)
    return torch.multinomial(probs.flatten(0, -2), 1, generator=generator).view(probs.shape[:-1])


class Categorical(Likelihood):
    """Softmax over the symbols of the vocabulary: ``logits`` (b n p k) of int64 symbols 0 to k - 1.

    Args:
        data: the signature of the data, field ``x``.

    Raises:
        PartArgumentError: the data holds real values.
        BuildError: symbols without a vocabulary.
    """

    discrete = True

    def __init__(self, *, data: Signature | None = None) -> None:
        super().__init__()
        self.symbols: int | None = None
        if data is not None:
            field = data["x"]
            require(
                field.discrete,
                f"likelihood='categorical' does not fit {field.kind} data, which holds real values: use gaussian or bernoulli",
            )
            self.symbols = count_symbols(field) - 1

    def outputs(self) -> dict[str, int]:
        """The logit of every symbol."""
        require(
            self.symbols is not None,
            "likelihood categorical needs data=, which says how many symbols there are",
        )
        return {"linear": int(self.symbols or 0)}

    def params(self, outputs: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``logits`` (b n p k)."""
        return {"logits": outputs["linear"]}

    def nll(self, params: Mapping[str, Tensor], target: Tensor) -> Float[Tensor, "b n p"]:
        """Return the cross-entropy."""
        logits = at_least_float32(params["logits"]).expand(*target.shape, -1)
        return F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view(target.shape)

    def point(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return the most likely symbol."""
        return params["logits"].argmax(-1)

    def sample(self, params: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw int64 symbols."""
        return draw_symbols(at_least_float32(params["logits"]), generator)

    def temper(self, params: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
        """Divide the logits by the temperature."""
        logits = at_least_float32(params["logits"])
        return {"logits": logits / temperature if temperature else keep_most_likely(logits)}
