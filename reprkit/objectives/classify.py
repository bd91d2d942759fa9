"""Classify: predict a label from the representation, the supervised baseline."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.interfaces import Objective, Term
from reprkit.objectives.labels import count_classes, get_labels
from reprkit.types import Batch
from reprkit.utils.precision import at_least_float32

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Classify(Objective):
    """Cross-entropy of a label, predicted by one linear layer on the output of ``model.represent``.

    For training with labels from scratch, and for fine-tuning (evaluator "finetune").  The layer is initialized
    to zero, so that all classes start with equal probability.  Loss ``classify``: nats an example.  Metric
    ``accuracy``, in [0, 1].

    Args:
        label: the label field; its signature gives the number of classes.
        factor: read only this factor's code; None concatenates the codes of all factors.

    Raises:
        BuildError: the label field or the factor does not exist, or the field has no vocabulary.
    """

    needs = frozenset({"encoder"})

    def __init__(self, *, label: str = "label", factor: str | None = None) -> None:
        super().__init__()
        self.label, self.factor = label, factor
        self.labels = {label: "classes"}
        self.head: nn.Module = nn.Identity()

    def reads(self, factors: Collection[str]) -> Collection[str]:
        """Return the factors whose codes are classified."""
        return factors if self.factor is None else (self.factor,)

    def bind(self, model: Model) -> None:
        """Create the linear layer, for the width of the codes and the number of classes."""
        if self.factor is not None:
            model.latent(self.factor)  # raises for an unknown factor
        width = sum(model.latent(name).out_dim for name in self.reads(tuple(model.factors)))
        self.head = nn.Linear(width, count_classes(model, self.label, "classify"))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        label = get_labels(batch, self.label, "classify")
        logits = self.logits(model, batch)
        model.record(accuracy=(logits.argmax(-1) == label).float().mean())
        return {"classify": (F.cross_entropy(at_least_float32(logits), label, reduction="sum"), len(label))}

    def logits(self, model: Model, batch: Batch) -> Float[Tensor, "b c"]:
        """Return the score of each class, from the mean code over tokens (the posterior mean of a sampled code)."""
        return self.head(model.represent(batch, self.factor))
