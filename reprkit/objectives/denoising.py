"""Denoising: rebuild the clean data from a damaged copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import MinLen
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.interfaces import Corruption, Objective, Term
from reprkit.layers.rows import tokens_at
from reprkit.layout import to_tokens
from reprkit.objectives.chain import Chain
from reprkit.objectives.scoring import quality, score, validity
from reprkit.types import Batch, Decoded

if TYPE_CHECKING:
    from reprkit.model import Model


class Denoising(Objective):
    """The denoising autoencoder: -log p(x | z), with z the code of a corrupted x (Vincent et al. 2008, ICML).

    What the encoders read is damaged in training only, with fresh draws at every step; the target is clean.
    In evaluation the encoders read the clean data and every element counts, so it is deterministic.

    Loss ``denoising``: nats, summed over the elements of an example that count, averaged over examples.
    Metrics: ``error``, squared error of an example over those elements, or ``perplexity`` of symbols.

    Args:
        corruption: a reference, an instance, or several that are applied in order.
        on: "all" elements count, or only those that were "hit" (masked language models: Devlin et al. 2019,
            arXiv 1810.04805, section 3.1; the two terms of Vincent et al. 2010, section 3.4, are a sum of
            both).

    Raises:
        PartArgumentError: ``on`` is neither, or there is no corruption.
        BuildError: a corruption that does not fit the data, or ``on="hit"`` where no encoder reads the output
            field.
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
        chosen = (corruption,) if isinstance(corruption, str | Corruption) else tuple(corruption)
        self.on = on
        self.damage = Chain(chosen)

    def bind(self, model: Model) -> None:
        """Make the corruptions of each field that is read."""
        self.damage.bind(model)
        if self.on == "hit" and model.output not in self.damage.fields:
            raise BuildError(
                f"denoising(on='hit') counts what was damaged of {model.output!r}, and no encoder reads that "
                "field; use on='all'"
            )

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The loss of one batch."""
        view, hits = self.damage(batch) if model.training else (batch, {})
        hit = hits.get(model.output) if self.on == "hit" else None
        asked = {} if hit is None else _asked(model, hit)
        decoded = model.decode(model.encode(view), length=model.output_length(batch), **asked)
        weight: Tensor | None
        if hit is not None and asked:  # nobody asks what it says of what was left alone
            target = tokens_at(batch[model.output].to(hit.device).unsqueeze(-1), asked["only"])
            weight = hit.gather(1, asked["only"]).unsqueeze(-1).float()
        else:
            target, weight = model.target(batch, decoded), validity(model, batch, decoded)
            if hit is not None:
                struck = self._laid(model, hit, decoded)
                weight = struck if weight is None else weight * struck
        nats = score(decoded, target, weight)
        model.record(**quality(decoded, target, weight, nats))
        return {"denoising": (nats, len(target))}

    def _laid(self, model: Model, hit: Tensor, decoded: Decoded) -> Tensor:
        """What was hit (b ...) on the decoder's tokens (b n p), as 0 or 1."""
        return to_tokens(hit, decoded.grid or (1,), model._output_field().kind).to(decoded.x.device).float()


def _asked(model: Model, hit: Tensor) -> dict[str, Tensor]:
    """Which symbols were hit (b m), for a decoder of steps that can be asked for some alone; rows of fewer hold others, too."""
    decoder = model.decoder
    if decoder is None or "only" not in decoder.provides or decoder.cells or hit.ndim != 2:
        return {}
    most = max(1, int(hit.sum(1).max()))
    return {"only": hit.int().argsort(dim=1, descending=True, stable=True)[:, :most]}
