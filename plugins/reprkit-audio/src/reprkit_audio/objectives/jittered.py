"""Reconstruction from a code whose tokens are randomly replaced by neighbors."""

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
from reprkit.layers.gather_rows import gather_tokens
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import Count
from reprkit.types import Batch
from reprkit.utils import collectives


class Jittered(Objective):
    """Reconstruction with random jitter in time of one factor's code (Chorowski et al. 2019, arXiv 1901.08810, section III-B).

    In training, each token is replaced with probability ``p`` by one of up to ``reach`` positions before or after it.  The
    content must then be stable over some tokens, and neighbors cannot divide up details that last for one token only.  In
    evaluation nothing is replaced.

    Loss ``reconstruction``: nats, summed over an example's valid tokens and elements, averaged over examples.
    Metrics: ``error`` or ``perplexity``, as objective ``reconstruction``.

    Args:
        p: probability in (0, 1] that a token is replaced; the paper's 0.12 on either side is 0.24.
        reach: largest distance of the replacement, on either side, all distances equally probable.
        factor: the factor to jitter, of more than one token; the only one if None.

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
        """Check that the factor exists and has several tokens."""
        name = resolve_factor(model.factors, self.factor, "objective jittered")
        if model.factors[name].pool:
            raise BuildError(
                f"objective jittered: factor {name} is pooled to one token, which has no neighbors"
            )

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        codes = model.encode(batch)
        if model.training:
            name = resolve_factor(model.factors, self.factor, "objective jittered")
            codes = codes | {name: jitter_tokens(codes[name], self.p, self.reach)}
        scored = model.score(batch, codes)
        model.record(**scored.metrics)
        return {"reconstruction": scored.loss}


def jitter_tokens(code: Code, p: float, reach: int) -> Code:
    """Replace random tokens of a code by neighbors; a token whose neighbor would lie outside the valid ones stays."""
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
    index = own + torch.where(side < 0.5, -step, step)
    index = torch.where((moved < p) & (index >= 0) & (index <= last), index, own)
    return replace(code, z=gather_tokens(z, index))
