"""Grouped: reconstruct an example from its own codes and one code of another member of its group."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import MinLen
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.corruptions.pipeline import CorruptionPipeline, as_corruptions
from reprkit.errors import BuildError
from reprkit.interfaces import Corruption, Objective, Term
from reprkit.models.factor import resolve_factor
from reprkit.objectives.labels import count_classes, get_labels
from reprkit.types import Batch, Codes
from reprkit.utils import collectives

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Grouped(Objective):
    """Reconstruction in which one factor's code comes from another example with the same label.

    This factor can then only encode what the examples of a group share (a voice, a style); everything else must be encoded by
    the other factors.  This is group supervision, as in the multi-level variational autoencoder (Bouchacourt et al. 2018, arXiv
    1705.08841).  Its group code combines all members; here it is the code of a single member, as in one-shot use.
    With ``corruption``, the other factors read a corrupted copy of their input in training, while the target and the input of the
    exchanged factor stay clean: what the corruption changes can only be had from the exchanged code.  A corruption that changes the
    voice so keeps the voice out of the content (NANSY, Choi et al. 2021, arXiv 2110.14513, section 3.1).
    The other member is drawn from the joined batch of all ranks; an example without another member keeps its own code.

    Loss ``reconstruction``: nats, summed over an example's valid tokens and elements, averaged over examples.
    Metrics: ``error`` or ``perplexity``, as objective ``reconstruction``; ``mates``, the fraction of examples that got the code
    of another example.

    Args:
        factor: the factor whose code is exchanged, usually of one token (``pool=True``); None means the only factor.
        label: the label field that defines the groups.
        corruption: a reference, an instance, or several that are applied in order to the input of the other factors; none if None.

    Raises:
        PartArgumentError: no corruption in a tuple.
        BuildError: the factor or the label field does not exist, a corruption does not fit the data, or there is one and no other
            factor.
    """

    needs = frozenset({"encoder", "decoder"})
    distributes = "gather"

    def __init__(
        self,
        *,
        factor: str | None = None,
        label: str = "label",
        corruption: str | Corruption | Annotated[tuple[str | Corruption, ...], MinLen(1)] | None = None,
    ) -> None:
        super().__init__()
        self.factor, self.label = factor, label
        self.labels = {label: "groups"}
        self.damage = None if corruption is None else CorruptionPipeline(as_corruptions(corruption))

    def bind(self, model: Model) -> None:
        """Check that the factor and the label field exist, and create the corruptions."""
        name = resolve_factor(model.factors, self.factor, "objective grouped")
        count_classes(model, self.label, "grouped")
        if self.damage is not None:
            if len(model.factors) < 2:
                raise BuildError(
                    f"grouped(corruption=) corrupts the input of the factors other than {name}, and there are none: "
                    "add a factor, or remove corruption="
                )
            self.damage.bind(model)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch; the batches of all ranks must have equal sizes."""
        label, codes = get_labels(batch, self.label, "grouped"), self._encode(model, batch)
        scored = model.score(batch, self._exchange(model, codes, label))
        model.record(**scored.metrics)
        return {"reconstruction": scored.loss}

    def _encode(self, model: Model, batch: Batch) -> Codes:
        """Encode the clean batch, or with a corruption, in training, all factors but the exchanged one from a corrupted batch."""
        if self.damage is None or not model.training:
            return model.encode(batch)
        own = resolve_factor(model.factors, self.factor, "objective grouped")
        others = tuple(name for name in model.factors if name != own)
        damaged = model.encode(self.damage(batch)[0], factors=others, in_range=False)
        return damaged | model.encode(batch, factors=(own,))

    def _exchange(self, model: Model, codes: Codes, label: Int[Tensor, " b"]) -> Codes:
        """Return the codes, with the factor's code taken from another member of the group."""
        name = resolve_factor(model.factors, self.factor, "objective grouped")
        code, groups, size = codes[name], collectives.gather(label), len(label)
        key = torch.rand(len(groups)) if model.training else torch.zeros(len(groups))  # equal on all ranks
        local = slice(collectives.rank() * size, (collectives.rank() + 1) * size)
        rows = draw_partners(groups, key.to(label.device))[local]
        own = torch.arange(len(groups), device=label.device)[local]
        model.record(mates=(rows != own).float().mean())
        layout: dict[str, Any] = {
            key: collectives.gather(value)[rows]
            for key in ("mask", "parents")
            if (value := getattr(code, key)) is not None
        }
        return codes | {name: replace(code, z=collectives.gather_with_gradient(code.z)[rows], **layout)}


def draw_partners(label: Int[Tensor, " n"], key: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Choose another example with the same label for each: the next in the order of ``key`` (n,) in [0, 1), cyclically."""
    order = (label.double() + key).argsort(stable=True)
    number, sorted_label = torch.arange(len(label), device=label.device), label[order]
    first = sorted_label != sorted_label.roll(1)
    first[:1] = True
    start = torch.where(first, number, 0).cummax(0).values
    after = torch.where(first.roll(-1), start, number + 1)
    partners = torch.empty_like(order)
    partners[order] = order[after]
    return partners
