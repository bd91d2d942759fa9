"""``Model.score`` and the record that it returns: an output with its target, loss and metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.layers.gather_rows import gather_tokens
from reprkit.models.draws import repeat_batch
from reprkit.models.grid import row_grid, to_tokens
from reprkit.types import Batch, Code, Codes, Decoded

if TYPE_CHECKING:
    from reprkit.models.model import Model
    from reprkit.models.output import Output


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The output of a decoder, its target, and the weight of each element; see ``Model.score``.

    Everything else is computed on first access, so that using only the point estimate costs no likelihood.
    ``dataclasses.replace(scored, target=...)`` scores the same output against another target.

    Attributes:
        decoded: the likelihood and its point estimate, x (b n p).
        target: the values that x should equal (b n p).
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
        """-log p of the target, and of what else the decoder generated (``code_nll``), nats an example."""
        nats, generated = self.nats.sum(1), self.decoded.code_nll
        return nats if generated is None else nats + generated

    @cached_property
    def total(self) -> Float[Tensor, ""]:
        """The sum of ``per_example``."""
        return self.nats.sum() if self.decoded.code_nll is None else self.per_example.sum()

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

        Symbols, and outputs without a point estimate: ``rates``.  Real values: ``error``, the squared error of an example.
        """
        if self.decoded.likelihood.discrete or not self.decoded.has_point:
            return self.rates
        with torch.no_grad():
            squares = (self.decoded.x - self.target).square()
            counted = squares if self.weight is None else squares * self.weight
            return {"error": counted.sum() / len(self.target)}

    @property
    def rates(self) -> dict[str, Tensor]:
        """``perplexity`` of symbols; ``bits_per_dim`` of real values, the nats an element over ln 2; detached."""
        total = self.total  # outside of no_grad: it is cached, and the loss needs its gradient
        with torch.no_grad():
            nats_per_element = total / (
                self.target.numel() if self.weight is None else self.weight.sum().clamp(min=1)
            )
            if self.decoded.likelihood.discrete:
                return {"perplexity": nats_per_element.clamp(max=80).exp()}
            return {"bits_per_dim": nats_per_element / math.log(2)}

    def restrict(self, weight: Float[Tensor, "b n p"] | None) -> Scored:
        """Return the same output, restricted to the elements where ``weight`` is 1 (it is 1 or 0); None: no change."""
        if weight is None:
            return self
        return replace(self, weight=weight if self.weight is None else self.weight * weight)


def score_output(
    model: Model,
    batch: Batch,
    codes: Codes | Mapping[str, Code] | None,
    *,
    view: Batch | None,
    queries: Tensor | None,
    teacher_forcing: bool,
    output: str | None,
    draws: int,
    in_range: bool,
) -> Scored:
    """Decode codes and compare with the target, in the units in which the decoder is trained; arguments as of ``Model.score``.

    Raises:
        BuildError: no such output, or ``queries`` for a decoder that does not provide them.
    """
    to = model.get_output(output)
    decoder, field = to.decoder, to.field
    if queries is not None and "queries" not in decoder.provides:
        raise BuildError(
            f"decoder {decoder.qualified or type(decoder).__name__} can only decode all its tokens, and queries= selects some: "
            'use a decoder that provides "queries", such as vit, or omit queries='
        )
    if codes is None and len(model.factors):
        codes = model.encode(
            batch if view is None else view, factors=to.reads, draws=draws, in_range=in_range
        )
    batch = repeat_batch(model.to_device(batch), draws)
    x = batch[to.field_name]
    options: dict[str, Any] = {} if output is None else {"output": output}
    options |= {} if queries is None else {"queries": queries}
    if teacher_forcing and "causal" in decoder.provides:
        target = to_tokens(x, row_grid(field, x), field.kind)
        decoded = model.decode(codes, teacher=target, **options)
        grid = decoded.grid or (1,)
    else:
        decoded = model.decode(codes, length=to.length(batch), **options)
        grid = decoded.grid or (1,) if queries is None else decoder.cells or row_grid(field, x)
        target = to_tokens(x, grid, field.kind)
    weight = valid_weight(to, batch, decoded, grid, queries, target.shape[-1])
    target = target if queries is None else gather_tokens(target, queries)
    return Scored(decoded=decoded, target=target, weight=weight)


def valid_weight(
    output: Output,
    batch: Batch,
    decoded: Decoded,
    grid: tuple[int, ...],
    queries: Int[Tensor, "b m"] | None,
    values_per_token: int,
) -> Float[Tensor, "b n p"] | None:
    """Return 1 where an element of the output field is valid and 0 where it is padding; None where all are valid.

    The data's own mask has priority, element by element: of a token that is half padding, the valid half counts.

    Args:
        output: the output that is scored.
        batch: the data, with the field's mask where lengths vary.
        decoded: the decoder's output; its mask is used where the data has none.
        grid: the layout of all the decoder's tokens over the field.
        queries: indices of the tokens in ``decoded``; None: all.
        values_per_token: data values of a token (p).
    """
    mask = batch.get(f"{output.field_name}_mask")
    if mask is not None:
        kind = output.field.kind
        values = mask
        if kind == "sequence":
            values = mask.unsqueeze(-1).expand(*mask.shape, batch[output.field_name].shape[-1])
        valid = to_tokens(values.to(decoded.device), grid, kind).float()
        return valid if queries is None else gather_tokens(valid, queries)
    if decoded.mask is not None:
        return decoded.mask.unsqueeze(-1).expand(*decoded.mask.shape, values_per_token).float()
    return None
