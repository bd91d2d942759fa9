"""An output beside its target: the record that ``Model.score`` returns, with its loss and its metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.layers.gather_rows import gather_tokens
from reprkit.models.grid import to_tokens
from reprkit.types import Batch, Decoded

if TYPE_CHECKING:
    from reprkit.models.model import Model


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a decoder said of a batch, what it should have said, and the elements that count; see ``Model.score``.

    All else is computed when it is first asked for, so that who only needs the point estimate pays for no likelihood.
    ``dataclasses.replace(scored, target=...)`` scores the same output against another target.

    Attributes:
        decoded: the likelihood and its point estimate, x (b n p).
        target: what x should equal (b n p).
        weight: 1 where an element counts, 0 where it does not (b n p); None where all count.
    """

    decoded: Decoded
    target: Tensor
    weight: Float[Tensor, "b n p"] | None = None

    @cached_property
    def nats(self) -> Float[Tensor, "b n"]:
        """-log p of the target, nats a token, over the elements that count."""
        return self.decoded.nll(self.target, self.weight)

    @property
    def per_example(self) -> Float[Tensor, " b"]:
        """-log p of the target, nats an example."""
        return self.nats.sum(1)

    @cached_property
    def total(self) -> Float[Tensor, ""]:
        """-log p of the target, nats of all examples together."""
        return self.nats.sum()

    @property
    def loss(self) -> tuple[Float[Tensor, ""], int]:
        """(sum, count), as an objective returns it: the nats of all examples, and how many examples there are."""
        return self.total, len(self.target)

    @property
    def full_weight(self) -> Float[Tensor, "b n p"]:
        """``weight``, and ones where it is None; float32."""
        if self.weight is None:
            return torch.ones(self.target.shape, device=self.target.device)
        return self.weight

    @property
    def metrics(self) -> dict[str, Tensor]:
        """Metrics over the elements that count, detached, named as the evaluator "reconstruction" names them.

        Symbols: ``perplexity``, exp of the nats a symbol.  Real values: ``error``, the squared error of an example.
        """
        if self.decoded.likelihood == "categorical":
            return self.rates
        with torch.no_grad():
            squares = (self.decoded.x - self.target).square()
            counted = squares if self.weight is None else squares * self.weight
            return {"error": counted.sum() / len(self.target)}

    @property
    def rates(self) -> dict[str, Tensor]:
        """``perplexity`` of symbols; ``bits_per_dim`` of real values, the nats an element over ln 2; detached."""
        total = self.total  # outside of no_grad: it is kept, and the loss needs its gradient
        with torch.no_grad():
            each = total / (self.target.numel() if self.weight is None else self.weight.sum().clamp(min=1))
            if self.decoded.likelihood == "categorical":
                return {"perplexity": each.clamp(max=80).exp()}
            return {"bits_per_dim": each / math.log(2)}

    def restrict(self, weight: Float[Tensor, "b n p"] | None) -> Scored:
        """The same output, over those elements alone that ``weight`` (1 or 0) counts, too; None: no change."""
        if weight is None:
            return self
        return replace(self, weight=weight if self.weight is None else self.weight * weight)


def valid_weight(
    model: Model, batch: Batch, decoded: Decoded, grid: tuple[int, ...], queries: Int[Tensor, "b m"] | None
) -> Float[Tensor, "b n p"] | None:
    """1 where an element of the output field is real and 0 where it is padding; None where all are real.

    The data's own mask is asked first, element by element: a token that is half padding counts for its real half.

    Args:
        model: whose output field it is.
        batch: of the data, with the field's mask where lengths vary.
        decoded: what the decoder said; its mask counts where the data has none.
        grid: how all the decoder's tokens lie over the field.
        queries: which of them ``decoded`` speaks of; None: all.
    """
    mask = batch.get(f"{model.output}_mask")
    if mask is not None:
        kind = model.output_field.kind
        values = mask
        if kind == "sequence":
            values = mask.unsqueeze(-1).expand(*mask.shape, batch[model.output].shape[-1])
        real = to_tokens(values.to(decoded.x.device), grid, kind).float()
        return real if queries is None else gather_tokens(real, queries)
    if decoded.mask is not None:
        return decoded.mask.unsqueeze(-1).expand(decoded.x.shape).float()
    return None
