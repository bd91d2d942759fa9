"""AutoVC's objective: reconstruction and content consistency."""

from __future__ import annotations

from dataclasses import replace

from reprkit import Model, Objective
from reprkit.interfaces import Term
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import NonNegative
from reprkit.types import Batch


class AutoVC(Objective):
    """Reconstruction, also of the first estimate, and content consistency (Qian et al. 2019, arXiv 1905.05879, eq. 6 to 8).

    The output is encoded again; its content code should equal that of the input.  Only the bottleneck of the content encoder
    separates content and speaker, so any encoder, latent and decoder can be used; without a first estimate
    (``params["initial"]``) there is no loss ``initial``.

    Losses: ``reconstruction`` and ``initial``, nats per example; ``content``, the L1 distance of the two codes, summed over an
    example's valid tokens and dimensions.  Metric ``error``: squared error per example.

    Args:
        content: weight of ``content`` (the paper's lambda).
        initial: weight of ``initial`` (the paper's mu).
        factor: the content factor; the only one if None.

    Raises:
        PartArgumentError: a negative weight.
        BuildError: no such factor.
    """

    needs = frozenset({"encoder", "decoder"})

    def __init__(
        self, *, content: NonNegative = 1.0, initial: NonNegative = 1.0, factor: str | None = "content"
    ) -> None:
        super().__init__()
        self.content, self.initial, self.factor = float(content), float(initial), factor

    def bind(self, model: Model) -> None:
        """Check that the factor exists."""
        resolve_factor(model.factors, self.factor, "objective autovc")

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the losses of one batch."""
        name = resolve_factor(model.factors, self.factor, "objective autovc")
        codes = model.encode(batch)
        scored = model.score(batch, codes, teacher_forcing=False)
        decoded = scored.decoded
        model.record(**scored.metrics)
        losses: dict[str, Term] = {"reconstruction": scored.loss}
        if "initial" in decoded.params and self.initial:
            params = {**decoded.params, "mean": decoded.params["initial"]}
            first = replace(scored, decoded=replace(decoded, x=params["mean"], params=params))
            losses["initial"] = (self.initial * first.total, len(first.target))
        if self.content:
            code = codes[name]
            again = model.encode(model.to_batch(decoded, batch), factors=[name], in_range=False)[name]
            gap = (again.z - code.z).abs().sum(-1)
            gap = gap if code.mask is None else gap * code.mask.to(gap.dtype)
            losses["content"] = (self.content * gap.sum(), len(gap))
        return losses
