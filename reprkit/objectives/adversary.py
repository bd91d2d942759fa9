"""Adversarial removal of a label from a code: a classifier on the code, and an encoder trained against it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprkit.interfaces import Objective, Term
from reprkit.layers.sequence_classifier import SequenceClassifier
from reprkit.models.factor import resolve_factor
from reprkit.objectives.labels import count_classes, get_labels
from reprkit.registry.constraints import DepthOrZero, Width
from reprkit.types import Batch, Code
from reprkit.utils.precision import at_least_float32

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Adversary(Objective):
    """A classifier of a label on one factor's code, against which that factor is trained (Chou et al. 2018, 1804.02812).

    Turn "critic" trains the classifier on the code as it is (eq. 3); turn "main" trains the encoder against it (eq. 4), and
    is added to the other objectives: ``"reconstruction + 100 * adversary(label='speaker')"``.  Works with any factor and any
    latent: the gradient passes through discrete codes as the reconstruction's does.

    Losses: ``critic``, cross-entropy, nats per example; ``adversary``, see ``goal``, nats per example.  Metric of the critic's
    turn: ``critic_accuracy`` in [0, 1]; chance level is best.

    Args:
        goal: "wrong": minus the classifier's cross-entropy, the paper's, which is unbounded; "uniform": the divergence of its
            prediction from the uniform distribution, which is 0 without information.
        label: the label field about which the code should hold no information.
        factor: the factor without that information; the only one if None.
        width: channels of the critic.
        depth: convolutions of the critic; 0: a linear classifier of the mean over tokens.
        standardize: whether the critic reads the code standardized, each dimension by its mean and deviation over the tokens of the
            batch (of this rank).  Without it, a code of small numbers hides from the critic, and not from a probe.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: no such label field, or no such factor.
    """

    needs = frozenset({"encoder"})
    turns = ("main", "critic")

    def __init__(
        self,
        *,
        goal: Literal["wrong", "uniform"] = "uniform",
        label: str = "label",
        factor: str | None = None,
        width: Width = 128,
        depth: DepthOrZero = 3,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.goal, self.label, self.factor, self.width, self.depth = goal, label, factor, width, depth
        self.standardize = standardize
        self.labels = {label: "classes"}
        self.critic: nn.Module = nn.Identity()

    @property
    def _name(self) -> str:
        return (self.qualified or "adversary").rpartition("/")[2]

    def bind(self, model: Model) -> None:
        """Build the critic, for the width of the code and the number of classes."""
        name = resolve_factor(model.factors, self.factor, f"objective {self._name}")
        classes = count_classes(model, self.label, self._name)
        self.critic = SequenceClassifier(model.latent(name).out_dim, self.width, self.depth, classes)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the losses of one batch in one turn."""
        name = resolve_factor(model.factors, self.factor, f"objective {self._name}")
        label = get_labels(batch, self.label, self._name)
        if turn == "critic":
            with torch.no_grad():
                code = model.encode(batch, factors=[name])[name]
            logits = self._classify(code)
            model.record(critic_accuracy=(logits.argmax(-1) == label).float().mean())
            return {"critic": (F.cross_entropy(logits, label, reduction="sum"), len(label))}
        logits = self._classify(model.encode(batch, factors=[name])[name])
        if self.goal == "wrong":
            return {"adversary": (-F.cross_entropy(logits, label, reduction="sum"), len(label))}
        log_probs = F.log_softmax(logits, -1)
        divergence = -log_probs.mean(-1) - math.log(log_probs.shape[-1])
        return {"adversary": (divergence.sum(), len(label))}

    def _classify(self, code: Code) -> Float[Tensor, "b k"]:
        z = _standardized(code.z, code.mask) if self.standardize else code.z
        return at_least_float32(self.critic(z, code.mask))


def _standardized(z: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b n d"]:
    """Return a code minus its mean, divided by its deviation, over the tokens of the batch: constants for the gradient."""
    with torch.no_grad():
        tokens = at_least_float32(z.flatten(0, 1) if mask is None else z[mask])
        mean, deviation = tokens.mean(0), tokens.std(0, unbiased=False)
    return (z - mean) / deviation.clamp(min=torch.finfo(deviation.dtype).tiny)
