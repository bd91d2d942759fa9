"""Classify: a label from the representation, the supervised end of every comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.interfaces import Objective, Term
from reprkit.objectives.labels import count_classes, get_labels
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Classify(Objective):
    """Cross-entropy of a label, by one linear layer on what ``model.represent`` gives.

    For training with labels from scratch, and for fine-tuning (evaluator "finetune").  The layer starts at
    zero, so that all classes begin alike.  Loss ``classify``: nats an example.  Metric ``accuracy``, in
    [0, 1].

    Args:
        label: the label field; its signature says how many classes there are.
        factor: read only this factor's code; all factors' in a row when None.

    Raises:
        BuildError: no such label field, a field without a vocabulary, or no such factor.
    """

    needs = frozenset({"encoder"})

    def __init__(self, *, label: str = "label", factor: str | None = None) -> None:
        super().__init__()
        self.label, self.factor = label, factor
        self.head: nn.Module = nn.Identity()

    def bind(self, model: Model) -> None:
        """Make the linear layer, for the width of the codes and the number of classes."""
        if self.factor is not None:
            model.latent(self.factor)  # refuses an unknown one
        width = sum(model.latent(name).out_dim for name in self._names(model))
        self.head = nn.Linear(width, count_classes(model, self.label, "classify"))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The loss of one batch."""
        label = get_labels(batch, self.label, "classify")
        logits = self.logits(model, batch)
        model.record(accuracy=(logits.argmax(-1) == label).float().mean())
        return {"classify": (F.cross_entropy(logits.float(), label, reduction="sum"), len(label))}

    def logits(self, model: Model, batch: Batch) -> Float[Tensor, "b c"]:
        """Each class's score, from the mean code over tokens (of a draw, the value it was drawn around)."""
        return self.head(model.represent(batch, self.factor))

    def _names(self, model: Model) -> tuple[str, ...]:
        return tuple(model.factors) if self.factor is None else (self.factor,)
