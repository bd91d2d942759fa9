"""Jittered: rebuild frames from a code whose tokens stand at times in a neighbour's place."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Gt, Le
from jaxtyping import Float
from torch import Tensor

from reprkit import Code, Model, Objective
from reprkit.errors import BuildError
from reprkit.interfaces import Term
from reprkit.layers.gather_rows import tokens_at
from reprkit.models.factor import factor_of
from reprkit.registry.constraints import Count
from reprkit.types import Batch
from reprkit.utils import collectives


class Jittered(Objective):
    """Reconstruction with random jitter in time of one factor's code (Chorowski et al. 2019, arXiv 1901.08810, section III-B).

    In training the decoder gets at each place, with probability ``p``, not its own token but one of up to ``reach`` places
    before or after it.  What is said must then hold for a while, and neighbours cannot share the work of describing what lasts
    for one token only.  In evaluation nothing moves.

    Loss ``reconstruction``: nats, summed over an example's valid tokens and elements, averaged over examples.
    Metrics: ``error`` or ``perplexity``, as objective ``reconstruction``.

    Args:
        p: probability in (0, 1] that a token is another's; the paper's 0.12 on either side is 0.24.
        reach: tokens that it may come from, on either side, each as probable as any other.
        factor: whose code, the only factor when None; of more than one token.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: no such factor, or one that is pooled.
    """

    needs = frozenset({"encoder", "decoder"})

    def __init__(
        self, *, p: Annotated[float, Gt(0), Le(1)] = 0.24, reach: Count = 1, factor: str | None = None
    ) -> None:
        super().__init__()
        self.p, self.reach, self.factor = p, reach, factor

    def bind(self, model: Model) -> None:
        """Look for the factor."""
        name = factor_of(model.factors, self.factor, "objective jittered")
        if model.factors[name].pool:
            raise BuildError(
                f"objective jittered: factor {name} is pooled to one token, which has no neighbours"
            )

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The loss of one batch."""
        codes = model.encode(batch)
        if model.training:
            name = factor_of(model.factors, self.factor, "objective jittered")
            codes = codes | {name: jitter_tokens(codes[name], self.p, self.reach)}
        scored = model.score(batch, codes)
        model.record(**scored.metrics)
        return {"reconstruction": scored.loss}


def jitter_tokens(code: Code, p: float, reach: int) -> Code:
    """The code with tokens of neighbours in the place of some of its own; a place before the first or behind the last stays."""
    z: Float[Tensor, "b n d"] = code.z
    size, length = z.shape[:2]
    last = torch.full((size, 1), length - 1, device=z.device)
    if code.mask is not None:
        last = code.mask.sum(1, keepdim=True).clamp(min=1) - 1

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, device=z.device)

    far, side, moved = (collectives.global_draw(draw, (size, length)) for _ in range(3))
    step = (far * reach).long() + 1
    own = torch.arange(length, device=z.device).expand(size, -1)
    place = own + torch.where(side < 0.5, -step, step)
    place = torch.where((moved < p) & (place >= 0) & (place <= last), place, own)
    return replace(code, z=tokens_at(z, place))
