"""Reconstruction: the likelihood of the data given its own code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.interfaces import Objective, Term
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Reconstruction(Objective):
    """The autoencoder's objective: -log p(x | z), with z the code of x.

    With a latent that has a ``kl`` loss this is the variational autoencoder's bound (Kingma and Welling 2014,
    arXiv 1312.6114, eq. 3); with a Gaussian likelihood of fixed scale it is the squared error.

    Loss ``reconstruction``: nats, summed over an example's valid tokens and elements, averaged over examples.
    Metrics: ``error``, squared error of an example, or ``perplexity`` of symbols.
    """

    needs = frozenset({"encoder", "decoder"})

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        scored = model.score(batch, teacher_forcing=False)
        model.record(**scored.metrics)
        return {"reconstruction": scored.loss}
