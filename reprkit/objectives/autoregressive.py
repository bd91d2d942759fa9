"""Autoregressive: the likelihood of each token given the tokens before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.interfaces import Objective, Term
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Autoregressive(Objective):
    """Teacher forcing: -log p(x) = -sum over t of log p(x_t | x_1 .. x_t-1, z) (Bengio et al. 2003, JMLR 3).

    Without a factor it is a plain sequence model; with factors, an autoencoder whose decoder also reads the
    earlier tokens (Bowman et al. 2016, arXiv 1511.06349).  The tokens are those of ``reprkit.models.grid.row_grid``:
    frames, symbols, or the rows of an image from the top.

    Loss ``autoregressive``: nats, summed over an example's valid tokens, averaged over examples.  Metrics:
    ``perplexity`` per symbol, or ``bits_per_dim`` per element of real values.
    """

    needs = frozenset({"decoder", "causal"})

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        scored = model.score(batch)
        model.record(**scored.rates)
        return {"autoregressive": scored.loss}
