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

    Loss ``reconstruction``: nats, summed over an example's valid tokens and elements, averaged over examples; of several outputs
    the sum.  Metrics: ``error``, squared error of an example, or ``perplexity`` of symbols; of several outputs each with its name,
    ``ab.error``, and its nats, ``ab.nll``.
    """

    needs = frozenset({"encoder", "decoder"})
    several_outputs = True

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        names = list(model.outputs)
        scored = {name: model.score(batch, teacher_forcing=False, output=name) for name in names}
        for name, each in scored.items():
            prefix = f"{name}." if len(names) > 1 else ""
            nll = {"nll": each.total / len(each.target)} if prefix else {}
            model.record(**{f"{prefix}{key}": value for key, value in {**each.metrics, **nll}.items()})
        losses = [each.loss for each in scored.values()]
        return {"reconstruction": (sum(total for total, _ in losses[1:]) + losses[0][0], losses[0][1])}
