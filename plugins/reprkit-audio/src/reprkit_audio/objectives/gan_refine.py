"""A second stage: conversions must pass for real frames, and for the target's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit import Codes, Model, Objective
from reprkit.interfaces import Term
from reprkit.models.factor import factor_of
from reprkit.objectives.labels import classes_of, labels_of
from reprkit.objectives.wasserstein import critic_loss
from reprkit.registry.constraints import Depth, NonNegative, Width
from reprkit.types import Batch
from reprkit.utils import collectives
from reprkit_audio.layers.classifier import Classifier
from reprkit_audio.layers.convolution import Convolution
from reprkit_audio.layers.frames import Mask, downsample_mask, masked_mean, mean_pool, time_last

_PART = "gan-refine"


class PatchCritic(nn.Module):
    """Judges every stretch of frames by itself (Isola et al. 2017, arXiv 1611.07004, section 3.2.2), and hears who speaks.

    The judge's convolutions over time halve the frames, without any norm, as a gradient penalty asks for; who speaks is heard
    by a classifier beside it.  Frames (b t c) to the mean verdict over patches (b) and logits of the speakers (b k).
    """

    def __init__(self, channels: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [channels] + [width] * depth
        self.layers = nn.ModuleList(Convolution(widths[place], width) for place in range(depth))
        self.last = Convolution(width, 1, 1)
        self.speaker = Classifier(channels, width, depth, classes)

    def forward(self, frames: Float[Tensor, "b t c"], mask: Mask) -> Float[Tensor, " b"]:
        """The verdict, higher for real."""
        x = time_last(frames)
        for place, layer in enumerate(self.layers):
            stride = 2 if place else 1
            x = mean_pool(F.leaky_relu(layer(x, mask), 0.2), mask, stride)
            mask = downsample_mask(mask, stride)
        return masked_mean(self.last(x), mask).squeeze(-1)


class GANRefine(Objective):
    """Refines the decoder with a critic on its conversions (Chou et al. 2018, arXiv 1804.02812, section 2.2).

    Each example is also decoded with the speaker's code of another example of the batch (of all ranks).  The critic tells real
    frames from such conversions (Wasserstein distance with gradient penalty, Gulrajani et al. 2017, arXiv 1704.00028, eq. 3) and
    learns from real ones who speaks; the decoder is trained to pass, and to be heard as the target (eq. 5 to 8).  The encoders
    are meant to be frozen.  The paper trains a generator that adds to a frozen decoder; here the decoder itself goes on, held
    by its reconstruction.

    Losses of turn "main": ``reconstruction``, nats an example; ``adversarial``, minus the verdict; ``target``, cross-entropy of
    the speaker heard, nats.  Of turn "critic": ``critic``, the distance with its penalty, and ``speaker``.  Metrics:
    ``target_accuracy``, and ``error`` as of reconstruction.

    Args:
        adversarial: weight of ``adversarial``, beside a reconstruction that is a sum over all frames.
        target: weight of ``target``.
        penalty: weight of the gradient penalty.
        label: the label field that says who speaks.
        speaker: the factor that is exchanged.
        width: channels of the critic.
        depth: its convolutions; each but the first halves the frames.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: no such label field, or no such factor.
    """

    needs = frozenset({"encoder", "decoder"})
    turns = ("main", "critic")
    distributes = "gather"

    def __init__(
        self,
        *,
        adversarial: NonNegative = 20.0,
        target: NonNegative = 20.0,
        penalty: NonNegative = 10.0,
        label: str = "speaker",
        speaker: str = "speaker",
        width: Width = 128,
        depth: Depth = 4,
    ) -> None:
        super().__init__()
        self.adversarial, self.target, self.penalty = float(adversarial), float(target), float(penalty)
        self.label, self.speaker, self.width, self.depth = label, speaker, width, depth
        self.critic: Any = nn.Identity()

    def bind(self, model: Model) -> None:
        """Make the critic, for the output's channels and the number of speakers."""
        factor_of(model.factors, self.speaker, f"objective {_PART}")
        classes = classes_of(model, self.label, _PART)
        assert model.signature is not None  # classes_of has read it
        self.critic = PatchCritic(model.signature[model.output].channels, self.width, self.depth, classes)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The losses of one batch, of one turn; every rank must bring as many examples as the others."""
        label = labels_of(batch, self.label, _PART)
        mask, real, size = batch.get(f"{model.output}_mask"), batch[model.output], len(label)
        if turn == "critic":
            with torch.no_grad():
                codes = model.encode(batch)
                made = self._frames(model, batch, self._exchanged(model, codes, label)[0])
            heard = self.critic.speaker(real, mask)
            loss, _ = critic_loss(
                self.critic,
                real,
                made,
                real_mask=mask,
                made_mask=mask,
                penalty=self.penalty,
                training=model.training,
            )
            nats = F.cross_entropy(heard.float(), label, reduction="sum")
            return {"critic": (loss.sum(), size), "speaker": (nats, size)}
        codes = model.encode(batch)
        rebuilt = model.score(batch, codes, teacher_forcing=False)
        other, whose = self._exchanged(model, codes, label)
        converted = self._frames(model, batch, other)
        verdict, heard = self.critic(converted, mask), self.critic.speaker(converted, mask)
        nats = F.cross_entropy(heard.float(), whose, reduction="sum")
        accuracy = (heard.argmax(-1) == whose).float().mean()
        model.record(**rebuilt.metrics, target_accuracy=accuracy)
        return {
            "reconstruction": rebuilt.loss,
            "adversarial": (-self.adversarial * verdict.sum(), size),
            "target": (self.target * nats, size),
        }

    def _exchanged(
        self, model: Model, codes: Codes, label: Int[Tensor, " b"]
    ) -> tuple[Codes, Int[Tensor, " b"]]:
        """Codes with the speaker's of an example further on, the same distance for all, and who that is."""
        code, size = codes[self.speaker], len(label)
        voices, who = collectives.gather_with_gradient(code.z), collectives.gather(label)
        total = len(who)
        step = int(torch.randint(1, max(total, 2), ())) if model.training else 1
        rows = (torch.arange(size, device=label.device) + collectives.rank() * size + step) % total
        return codes | {self.speaker: replace(code, z=voices[rows])}, who[rows]

    def _frames(self, model: Model, batch: Batch, codes: Codes) -> Tensor:
        decoded = model.decode(codes, length=model.output_length(batch))
        return model.to_batch(decoded)[model.output]
