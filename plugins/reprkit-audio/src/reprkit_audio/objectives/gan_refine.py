"""Adversarial refinement, a second stage: conversions should look real and have the target's voice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit import Codes, Model, Objective
from reprkit.interfaces import Term
from reprkit.layers.sequence_classifier import SequenceClassifier
from reprkit.models.factor import resolve_factor
from reprkit.objectives.labels import count_classes, get_labels
from reprkit.objectives.wasserstein import critic_loss
from reprkit.registry.constraints import Depth, NonNegative, Width
from reprkit.types import Batch
from reprkit.utils import collectives
from reprkit_audio.layers.convolution import Convolution
from reprkit_audio.layers.frames import Mask, downsample_mask, masked_mean, mean_pool, time_last

_PART = "gan-refine"


class PatchCritic(nn.Module):
    """Scores patches of frames (Isola et al. 2017, arXiv 1611.07004, section 3.2.2), and classifies the speaker.

    The critic's convolutions over time halve the frames, without any norm, as a gradient penalty requires; a separate network
    classifies the speaker.  Frames (b t c) to the mean score over patches (b) and logits of the speakers (b k).
    """

    def __init__(self, channels: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [channels] + [width] * depth
        self.layers = nn.ModuleList(Convolution(widths[index], width) for index in range(depth))
        self.last = Convolution(width, 1, 1)
        self.speaker = SequenceClassifier(channels, width, depth, classes)

    def forward(self, frames: Float[Tensor, "b t c"], mask: Mask) -> Float[Tensor, " b"]:
        """Return the score, higher for real frames."""
        x = time_last(frames)
        for index, layer in enumerate(self.layers):
            stride = 2 if index else 1
            x = mean_pool(F.leaky_relu(layer(x, mask), 0.2), mask, stride)
            mask = downsample_mask(mask, stride)
        return masked_mean(self.last(x), mask).squeeze(-1)


class GANRefine(Objective):
    """Refines the decoder with a critic on its conversions (Chou et al. 2018, arXiv 1804.02812, section 2.2).

    Each example is also decoded with the speaker code of another example of the batch (of all ranks).  The critic tells real
    frames from such conversions (Wasserstein distance with gradient penalty, Gulrajani et al. 2017, arXiv 1704.00028, eq. 3) and
    learns to classify the speaker on real ones; the decoder is trained to pass as real and as the target (eq. 5 to 8).  The
    encoders should be frozen.  The paper trains a generator that adds to a frozen decoder; here the decoder itself is trained
    further, regularized by its reconstruction.

    Losses of turn "main": ``reconstruction``, nats per example; ``adversarial``, minus the critic's score; ``target``,
    cross-entropy of the target speaker, nats.  Of turn "critic": ``critic``, the distance with its penalty, and ``speaker``,
    the cross-entropy of the classifier on real frames.  Metrics: ``target_accuracy``, and ``error`` as of reconstruction.

    Args:
        adversarial: weight of ``adversarial``, beside a reconstruction that is a sum over all frames.
        target: weight of ``target``.
        penalty: weight of the gradient penalty.
        label: the label field of the speaker.
        speaker: the factor whose codes are swapped.
        width: channels of the critic.
        depth: convolutions of the critic; each but the first halves the frames.

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
        self.labels = {label: "classes"}
        self.critic: Any = nn.Identity()

    def bind(self, model: Model) -> None:
        """Build the critic, for the output's channels and the number of speakers."""
        resolve_factor(model.factors, self.speaker, f"objective {_PART}")
        classes = count_classes(model, self.label, _PART)
        assert model.signature is not None  # count_classes has read it
        self.critic = PatchCritic(model.signature[model.output].channels, self.width, self.depth, classes)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the losses of one batch in one turn; every rank must have equally many examples."""
        label = get_labels(batch, self.label, _PART)
        mask, real, size = batch.get(f"{model.output}_mask"), batch[model.output], len(label)
        if turn == "critic":
            with torch.no_grad():
                codes = model.encode(batch)
                converted = self._decode_frames(model, batch, self._swap_speakers(model, codes, label)[0])
            logits = self.critic.speaker(real, mask)
            loss, _ = critic_loss(
                self.critic,
                real,
                converted,
                real_mask=mask,
                fake_mask=mask,
                penalty=self.penalty,
                training=model.training,
            )
            nats = F.cross_entropy(logits.float(), label, reduction="sum")
            return {"critic": (loss.sum(), size), "speaker": (nats, size)}
        codes = model.encode(batch)
        rebuilt = model.score(batch, codes, teacher_forcing=False)
        other, whose = self._swap_speakers(model, codes, label)
        converted = self._decode_frames(model, batch, other)
        scores, logits = self.critic(converted, mask), self.critic.speaker(converted, mask)
        nats = F.cross_entropy(logits.float(), whose, reduction="sum")
        accuracy = (logits.argmax(-1) == whose).float().mean()
        model.record(**rebuilt.metrics, target_accuracy=accuracy)
        return {
            "reconstruction": rebuilt.loss,
            "adversarial": (-self.adversarial * scores.sum(), size),
            "target": (self.target * nats, size),
        }

    def _swap_speakers(
        self, model: Model, codes: Codes, label: Int[Tensor, " b"]
    ) -> tuple[Codes, Int[Tensor, " b"]]:
        """Replace the speaker codes by those of other examples, at the same offset for all; returns the speakers, too."""
        code, size = codes[self.speaker], len(label)
        voices, who = collectives.gather_with_gradient(code.z), collectives.gather(label)
        total = len(who)
        step = torch.randint(1, max(total, 2), ()) if model.training else 1
        rows = (torch.arange(size, device=label.device) + collectives.rank() * size + step) % total
        return codes | {self.speaker: replace(code, z=voices[rows])}, who[rows]

    def _decode_frames(self, model: Model, batch: Batch, codes: Codes) -> Tensor:
        decoded = model.decode(codes, length=model.output_length(batch))
        return model.to_batch(decoded)[model.output]
