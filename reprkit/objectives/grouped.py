"""Grouped: rebuild an example with what another one of its group has in common with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.interfaces import Objective, Term
from reprkit.models.factor import factor_of
from reprkit.objectives.labels import count_classes, get_labels
from reprkit.types import Batch, Codes
from reprkit.utils import collectives

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Grouped(Objective):
    """Reconstruction in which one factor's code comes from another example with the same label.

    So that this factor can hold only what the examples of a group share (a voice, a style), and all else must go through the
    other factors: group supervision, as in the multi-level variational autoencoder (Bouchacourt et al. 2018, arXiv 1705.08841),
    whose group code is drawn from all members, where this one takes one member's at a time: what it is used for, one-shot.
    The other member is drawn among those of the batch, of all ranks; an example that is alone of its group keeps its own code.

    Loss ``reconstruction``: nats, summed over an example's valid tokens and elements, averaged over examples.
    Metrics: ``error`` or ``perplexity``, as objective ``reconstruction``; ``draw_partners``, the share of examples that got another's.

    Args:
        factor: whose code is taken from another example, the only factor when None; usually of one token (``pool=True``).
        label: the label field that says which examples are of one group.

    Raises:
        BuildError: no such factor, or no such label field.
    """

    needs = frozenset({"encoder", "decoder"})

    def __init__(self, *, factor: str | None = None, label: str = "label") -> None:
        super().__init__()
        self.factor, self.label = factor, label

    def bind(self, model: Model) -> None:
        """Look for the factor and the field."""
        factor_of(model.factors, self.factor, "objective grouped")
        count_classes(model, self.label, "grouped")

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The loss of one batch; every rank must bring as many examples as the others."""
        label, codes = get_labels(batch, self.label, "grouped"), model.encode(batch)
        scored = model.score(batch, self._shared(model, codes, label))
        model.record(**scored.metrics)
        return {"reconstruction": scored.loss}

    def _shared(self, model: Model, codes: Codes, label: Int[Tensor, " b"]) -> Codes:
        """The codes, the factor's own from a mate."""
        name = factor_of(model.factors, self.factor, "objective grouped")
        code, groups, size = codes[name], collectives.gather(label), len(label)
        key = torch.rand(len(groups)) if model.training else torch.zeros(len(groups))  # equal on all ranks
        mine = slice(collectives.rank() * size, (collectives.rank() + 1) * size)
        rows = draw_partners(groups, key.to(label.device))[mine]
        own = torch.arange(len(groups), device=label.device)[mine]
        model.record(mates=(rows != own).float().mean())
        mask = None if code.mask is None else collectives.gather(code.mask)[rows]
        return codes | {name: replace(code, z=collectives.gather_with_gradient(code.z)[rows], mask=mask)}


def draw_partners(label: Int[Tensor, " n"], key: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """For each example another one with its label: the next in the order of ``key`` (n,) in [0, 1), the last's is the first."""
    order = (label.double() + key).argsort(stable=True)
    number, sorted_label = torch.arange(len(label), device=label.device), label[order]
    first = sorted_label != sorted_label.roll(1)
    first[:1] = True
    start = torch.where(first, number, 0).cummax(0).values
    after = torch.where(first.roll(-1), start, number + 1)
    found = torch.empty_like(order)
    found[order] = order[after]
    return found
