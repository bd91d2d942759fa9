"""The speaker's adversary: a critic hears who speaks in a code, until the encoder leaves nothing to hear."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Code, Model, Objective
from reprkit.interfaces import Term
from reprkit.models.factor import resolve_factor
from reprkit.objectives.labels import count_classes, get_labels
from reprkit.registry.constraints import Depth, Width
from reprkit.types import Batch
from reprkit_audio.layers.classifier import Classifier


class SpeakerAdversary(Objective):
    """A classifier of speakers on one factor's code, against which that factor is trained (Chou et al. 2018, 1804.02812).

    Turn "critic" trains the classifier on the code as it is (eq. 3); turn "main" trains the encoder to deceive it (eq. 4), and
    is added to what else the code is for: ``"reconstruction + 100 * speaker-adversary"``.  Any factor and any latent: the
    gradient passes through discrete codes as their reconstruction's does.

    Losses: ``critic``, cross-entropy, nats an example; ``adversary``, see ``goal``, nats an example.  Metric of the critic's
    turn: ``critic_accuracy`` in [0, 1]; chance is what one wants.

    Args:
        goal: "wrong": minus the classifier's cross-entropy, the paper's, which has no bound; "uniform": the divergence of its
            verdict from the uniform one, which is 0 when it knows nothing.
        label: the label field that says who speaks.
        factor: whose code must not tell; the only factor when None.
        width: channels of the critic.
        depth: convolutions of the critic.

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
        label: str = "speaker",
        factor: str | None = "content",
        width: Width = 128,
        depth: Depth = 3,
    ) -> None:
        super().__init__()
        self.goal, self.label, self.factor, self.width, self.depth = goal, label, factor, width, depth
        self.critic: nn.Module = nn.Identity()

    def bind(self, model: Model) -> None:
        """Make the critic, for the width of the code and the number of speakers."""
        name = resolve_factor(model.factors, self.factor, "objective speaker-adversary")
        classes = count_classes(model, self.label, "speaker-adversary")
        self.critic = Classifier(model.latent(name).out_dim, self.width, self.depth, classes)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The losses of one batch, of one turn."""
        name = resolve_factor(model.factors, self.factor, "objective speaker-adversary")
        label = get_labels(batch, self.label, "speaker-adversary")
        if turn == "critic":
            with torch.no_grad():
                code = model.encode(batch, factors=[name])[name]
            logits = self._heard(code)
            model.record(critic_accuracy=(logits.argmax(-1) == label).float().mean())
            return {"critic": (F.cross_entropy(logits, label, reduction="sum"), len(label))}
        logits = self._heard(model.encode(batch, factors=[name])[name])
        if self.goal == "wrong":
            return {"adversary": (-F.cross_entropy(logits, label, reduction="sum"), len(label))}
        verdict = F.log_softmax(logits, -1)
        divergence = -verdict.mean(-1) - torch.tensor(float(verdict.shape[-1])).log().to(verdict)
        return {"adversary": (divergence.sum(), len(label))}

    def _heard(self, code: Code) -> Float[Tensor, "b k"]:
        return self.critic(code.z, code.mask).float()
