"""Objective of neural vocoders: spectral and adversarial losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Le, MinLen
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from reprkit import Objective
from reprkit.errors import BuildError, PartArgumentError
from reprkit.interfaces import Term
from reprkit.models.grid import from_tokens
from reprkit.registry.constraints import Kernel, NonNegative, Width
from reprkit.types import Batch
from reprkit_audio.frontends import frontend
from reprkit_audio.frontends.log_mel import LogMel
from reprkit_audio.objectives.critics import (
    Critic,
    Verdict,
    feature_matching_loss,
    generator_loss,
    hinge_loss,
)
from reprkit_audio.objectives.spectral import mel_difference, stft_difference

if TYPE_CHECKING:
    from reprkit import Model


class VocoderObjective(Objective):
    """Spectral losses, and adversarial losses against critics of waveforms.

    Vocos' losses (Siuzdak 2023, arXiv 2306.00814, section 3.3: mel, hinge, feature matching; critics by period and by
    resolution), and the multi-resolution spectral loss (Yamamoto et al. 2020, arXiv 1910.11480), which learns faster in
    the first thousands of steps.  A likelihood of samples would penalize all phases but one, so the decoder's is not used.

    Losses, the mean times the weight, summed over the frames of an example as the losses of latents are over its tokens: ``mel``,
    ``stft`` (logarithms), ``convergence``, and once the critic has been trained ``adversarial`` and ``matching``.  They are not
    in nats; ``mel`` is that of a Laplace distribution of each band with scale bands / ``mel``.  Metric ``mel_nats``: mean absolute
    difference of the logarithms in mel bands.  Turn "critic" trains ``critic``, loss ``critic``, summed over frames, too; metric
    ``told``: share of scores with the right sign.  Leave that turn out as long as the spectral losses should dominate.

    Args:
        form: the front end of the loss ``mel``, a log-mel; if None, that of the encoder's input field, or else the default.
        mel, stft, adversarial, matching: weights, at least 0; ``stft`` also weights ``convergence``.
        windows: samples of the transforms of the spectral loss and of the critics of spectra; each with a hop of a quarter.
        periods: of the critics of folded waveforms.
        width: channels of the critics' first layers; HiFi-GAN's have 32, and 40 million weights.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the model's output is not a waveform of fixed length, or is too short for the windows.
    """

    needs = frozenset({"encoder", "decoder"})
    turns = ("main", "critic")
    practised: Tensor

    def __init__(
        self,
        form: str | None = None,
        *,
        mel: NonNegative = 45.0,
        stft: NonNegative = 1.0,
        adversarial: NonNegative = 1.0,
        matching: NonNegative = 1.0,
        windows: Annotated[tuple[Annotated[int, Ge(4), Le(2**20)], ...], MinLen(1)] = (512, 1024, 2048),
        periods: Annotated[tuple[Kernel, ...], MinLen(1)] = (2, 3, 5, 7, 11),
        width: Width = 32,
    ) -> None:
        super().__init__()
        self.loss_weights = {"mel": mel, "stft": stft, "adversarial": adversarial, "matching": matching}
        self.windows = tuple(windows)
        self.front = None if form is None else _log_mel(form)
        self.critic = Critic(tuple(periods), self.windows, width)
        # Whether the critic was ever trained; before, its gradient is useless for the generator.
        self.register_buffer("practised", torch.zeros((), dtype=torch.bool))
        # A copy of it on the host, to read without synchronizing with the device; None: read the buffer.
        self._is_practised: bool | None = False

    def bind(self, model: Model) -> None:
        """Check the output field; by default take the form of the input field."""
        if model.signature is None:
            raise BuildError("objective vocoder needs build(data=...): to know the waveform's length")
        field = model.signature[model.output]
        if field.kind != "sequence" or field.channels != 1 or field.shape[0] is None:
            raise BuildError(
                f"objective vocoder needs an output that is a waveform (t 1) of one length, and {model.output!r} is "
                f"{field.kind} data ({field.axes}): data set waves has one, build(output='wave')"
            )
        longest = max(self.windows)
        if field.shape[0] <= longest // 2:
            raise BuildError(
                f"windows of {field.shape[0]} samples are too short for a transform of {longest}"
            )
        if self.front is None:
            forms = [model.signature[path.input].form for path in model.factors.values()]
            fitting = [form for form in forms if form is not None and form.startswith("log-mel")]
            self.front = _log_mel(fitting[0] if fitting else "log-mel")

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the losses of one batch."""
        true = batch[model.output].squeeze(-1).float()
        if turn == "critic":
            return self._critic_loss(model, batch, true)
        generated = self._generate(model, batch)
        # Sums, as all losses are: beside means over an example, a commitment loss, summed over its tokens, weighs as much as the
        # spectral ones, and features shrink to a few directions.
        frames = self._frames(true)
        count, weights = len(true), {name: frames * weight for name, weight in self.loss_weights.items()}
        assert self.front is not None  # bind
        nats = mel_difference(self.front, generated, true)
        logs, (differences, norms) = stft_difference(generated, true, self.windows)
        model.record(mel_nats=nats.detach().mean())
        terms: dict[str, Term] = {
            "mel": (weights["mel"] * nats.sum(), count),
            "stft": (weights["stft"] * logs.sum(), count),
            "convergence": (weights["stft"] * differences, norms),
        }
        if self._critic_is_practised() and (weights["adversarial"] or weights["matching"]):
            on_generated = self._run_frozen_critic(generated)
            with torch.no_grad():
                on_true = self.critic(true)
            shares = self.critic.shares
            terms["adversarial"] = (
                weights["adversarial"] * generator_loss(on_generated, shares).sum(),
                count,
            )
            terms["matching"] = (
                weights["matching"] * feature_matching_loss(on_true, on_generated, shares).sum(),
                count,
            )
        return terms

    def _critic_loss(self, model: Model, batch: Batch, true: Tensor) -> dict[str, Term]:
        with torch.no_grad():
            generated = self._generate(model, batch)
        on_true, on_generated = self.critic(true), self.critic(generated)
        if self.training:
            self.practised.fill_(True)
            self._is_practised = True
        right = [
            (real[0] > 0).float().mean() + (fake[0] < 0).float().mean()
            for real, fake in zip(on_true, on_generated, strict=True)
        ]
        model.record(told=torch.stack(right).mean() / 2)
        # Summed over frames as well, so that one bound of the gradients' norm (clip=) serves both turns.
        losses = self._frames(true) * hinge_loss(on_true, on_generated, self.critic.shares)
        return {"critic": (losses.sum(), len(true))}

    def _critic_is_practised(self) -> bool:
        if self._is_practised is None:
            self._is_practised = bool(self.practised)
        return self._is_practised

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._is_practised = None

    def _frames(self, true: Float[Tensor, "b t"]) -> float:
        assert self.front is not None  # bind
        return true.shape[1] / self.front.hop

    def _generate(self, model: Model, batch: Batch) -> Float[Tensor, "b t"]:
        """Decode the waveform of a batch's frames, float32."""
        decoded = model.decode(model.encode(batch))
        assert model.signature is not None  # bind
        wave = from_tokens(decoded.x, decoded.grid or (1,), model.signature[model.output])
        return wave.squeeze(-1).float()

    def _run_frozen_critic(self, generated: Float[Tensor, "b t"]) -> list[Verdict]:
        """Run the critics with gradients for the waveform and none for the critics' weights."""
        state = {name: value.detach() for name, value in self.critic.named_parameters()}
        return functional_call(self.critic, state, (generated,))


def _log_mel(form: str) -> LogMel:
    front = frontend(form)
    if not isinstance(front, LogMel):
        raise PartArgumentError(f"objective vocoder: form must be a log-mel, not {form!r}")
    return front
