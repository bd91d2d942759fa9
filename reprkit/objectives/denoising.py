"""Denoising: reconstruct the clean data from a corrupted copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import MinLen
from jaxtyping import Int
from torch import Tensor

from reprkit.corruptions.pipeline import CorruptionPipeline, as_corruptions
from reprkit.errors import BuildError
from reprkit.interfaces import Corruption, Objective, Term
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Denoising(Objective):
    """The denoising autoencoder: -log p(x | z), with z the code of a corrupted x (Vincent et al. 2008, ICML).

    The input of the encoders is corrupted in training only, with new draws at every step; the target is clean.
    In evaluation the encoders read the clean data and the loss covers every element, so it is deterministic.

    Loss ``denoising``: nats, summed over the elements of an example that ``on`` selects, averaged over examples.
    Metrics: ``error``, squared error of an example over those elements, or ``perplexity`` of symbols.

    Args:
        corruption: a reference, an instance, or several that are applied in order.
        on: the loss is on "all" elements, or only on the corrupted ones, "hit" (masked language models: Devlin
            et al. 2019, arXiv 1810.04805, section 3.1; the two terms of Vincent et al. 2010, section 3.4, are a
            sum of both).

    Raises:
        PartArgumentError: ``on`` is neither, or there is no corruption.
        BuildError: a corruption does not fit the data, or ``on="hit"`` where no encoder reads the output field.
    """

    needs = frozenset({"encoder", "decoder"})

    def __init__(
        self,
        corruption: str
        | Corruption
        | Annotated[tuple[str | Corruption, ...], MinLen(1)] = "mask-elements(ratio=0.3)",
        *,
        on: Literal["all", "hit"] = "all",
    ) -> None:
        super().__init__()
        self.on = on
        self.damage = CorruptionPipeline(as_corruptions(corruption))

    def bind(self, model: Model) -> None:
        """Create the corruptions of each input field."""
        self.damage.bind(model)
        if self.on == "hit" and model.output not in self.damage.fields:
            raise BuildError(
                f"denoising(on='hit') needs corrupted elements of the output field {model.output!r}, and no encoder reads "
                "that field; use on='all'"
            )

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        view, hits = self.damage(batch) if model.training else (batch, {})
        hit = hits.get(model.output) if self.on == "hit" else None
        queries = None if hit is None else _queries(model, hit)  # decode corrupted tokens only
        scored = model.score(batch, view=view, queries=queries, teacher_forcing=False)
        if hit is not None and queries is None:
            scored = scored.restrict(model.as_tokens(hit, scored.decoded).float())
        elif hit is not None and queries is not None:
            scored = scored.restrict(hit.gather(1, queries).unsqueeze(-1).float())
        model.record(**scored.metrics)
        return {"denoising": scored.loss}


def _queries(model: Model, hit: Tensor) -> Int[Tensor, "b m"] | None:
    """Return the indices of the corrupted symbols (b m) as queries, None where the decoder does not support them.

    m is the largest number of an example; rows with fewer are filled up with other symbols.
    """
    decoder = model.decoder
    if decoder is None or "queries" not in decoder.provides or decoder.cells or hit.ndim != 2:
        return None
    most = max(1, int(hit.sum(1).max()))
    return hit.int().argsort(dim=1, descending=True, stable=True)[:, :most]
