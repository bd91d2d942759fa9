"""Contractive: penalize the Jacobian of the code, so that the code changes little with the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from reprkit.errors import BuildError
from reprkit.interfaces import Objective, Term
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import CountOrZero
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Contractive(Objective):
    """The contractive autoencoder's penalty (Rifai et al. 2011, ICML, eq. 1-3): the squared Frobenius norm of the code's Jacobian.

    Use it beside a reconstruction: ``"reconstruction + 0.1 * contractive"``.  Alone it becomes ``"reconstruction + contractive"``,
    since a constant code would have none of it.  A step costs a forward pass and a twice differentiated backward pass for each
    element of the code, or for each of the ``probes``.

    Loss ``contractive``: the squared norm of an example's Jacobian, averaged over examples.

    Args:
        factor: the factor whose code is contracted; None means the only factor.
        probes: estimate the norm by this many random projections of the code, for wide codes; 0 computes it exactly.  In
            evaluation the projections have a fixed seed.

    Raises:
        BuildError: no such factor, a discrete latent, or a factor that reads symbols.
    """

    needs = frozenset({"encoder", "second-order"})
    is_penalty = True

    def __init__(self, *, factor: str | None = None, probes: CountOrZero = 0) -> None:
        super().__init__()
        self.factor, self.probes = factor, probes

    def bind(self, model: Model) -> None:
        """Check that the factor's code can be differentiated."""
        name = resolve_factor(model.factors, self.factor, "objective contractive")
        factor = model.factors[name]
        if factor.latent.vocab is not None:
            raise BuildError(
                f"objective contractive needs a derivative of the code, and latent "
                f"{factor.latent.qualified or type(factor.latent).__name__} is discrete: use a continuous latent"
            )
        if model.signature is not None and model.signature[factor.input].discrete:
            raise BuildError(
                f"objective contractive needs a derivative with respect to field {factor.input!r}, which holds symbols"
            )

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the penalty of one batch."""
        generator = None if model.training else torch.Generator().manual_seed(0)
        rows = model.jacobian(
            batch,
            factor=self.factor,
            create_graph=torch.is_grad_enabled(),
            probes=self.probes,
            generator=generator,
        )
        return {"contractive": (rows.square().sum() / max(1, self.probes), len(rows))}
