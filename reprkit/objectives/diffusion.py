"""Diffusion: learn to remove noise of every strength, and generate by removing it step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit.corruptions.base import draw_normal, draw_uniform
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.interfaces import Objective, Term, require
from reprkit.layers.positions import sinusoidal_positions
from reprkit.layers.value_embedding import element_scales
from reprkit.models.factor import factor
from reprkit.models.grid import from_tokens
from reprkit.objectives.noise_schedule import (
    Prediction,
    Schedule,
    add_noise,
    predicted_data,
    prediction_target,
    previous_step,
    signal_shares,
)
from reprkit.registry.constraints import BelowOne, Width
from reprkit.types import Batch, Codes, Decoded
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Diffusion(Objective):
    """Denoising diffusion (DDPM, Ho et al. 2020, arXiv 2006.11239, eq. 14): predict the noise in a noised example.

    The factors that read the output's field get it noised.  Another one reads the objective's own field ``time``, the sinusoidal
    embedding of the step (b width): ``"time": rk.factor("mlp", input="time", pool=True)``.  All others are conditions, such as a
    label.  The data is rescaled to [-1, 1] by its range, or standardized by its columns; plain data is encoded at step 0, where it
    has almost no noise.

    ``model.sample(size, steps=, eta=, guidance=, like=)`` generates: see ``sample``.  The decoder's output is the prediction, so
    evaluators of reconstructions refuse the model, unless ``prediction="data"``.

    Loss ``diffusion``: nats of the prediction under the decoder's likelihood, of one random step an example, averaged over
    examples.  With ``gaussian(scale=1)`` and a range of (-1, 1) it is half of equation 14's squared error and a constant; the
    default scale is learned.  Metric ``error``: squared error of an example.

    Args:
        prediction: what the decoder predicts: "noise", "data", or "velocity" (Salimans and Ho 2022, arXiv 2202.00512).
        steps: number of steps of noise.
        schedule: "linear" (Ho et al. 2020) or "cosine" (Nichol and Dhariwal 2021, arXiv 2102.09672).
        drop: probability of replacing all conditions of an example by a learned vector, so that ``guidance`` can be used
            (classifier-free guidance, Ho and Salimans 2022, arXiv 2207.12598).
        width: width of the time's embedding.

    Raises:
        BuildError: the output holds symbols or categories, no factor reads it, none reads the time, ``drop`` without conditions,
            or a likelihood of probabilities.
    """

    needs = frozenset({"encoder", "decoder"})
    generates = True
    shares: Tensor
    center: Tensor
    radius: Tensor

    def __init__(
        self,
        prediction: Prediction = "noise",
        *,
        steps: Annotated[int, Ge(2), Le(100_000)] = 1000,
        schedule: Schedule = "linear",
        drop: BelowOne = 0.0,
        width: Width = 32,
    ) -> None:
        super().__init__()
        self.prediction, self.steps, self.drop, self.width = prediction, steps, drop, width
        self.decodes = "the data" if prediction == "data" else f"the {prediction} of a diffusion"
        self.register_buffer("shares", signal_shares(schedule, steps), persistent=False)
        self.register_buffer("center", torch.zeros(1), persistent=False)
        self.register_buffer("radius", torch.ones(1), persistent=False)
        self.absent = nn.ParameterDict()
        self.noised: tuple[str, ...] = ()

    def fields(self, signature: Signature) -> Mapping[str, Field]:
        """Return the field ``time``: the embedding of the step."""
        return {"time": Field(kind="vector", shape=(self.width,), range=(-1.0, 1.0))}

    def fill(self, batch: Batch) -> Batch:
        """Add the time of step 0, which has the least noise."""
        if "time" in batch:
            return batch
        first = next(iter(batch.values()))
        return {**batch, "time": self.embed(torch.zeros(len(first), dtype=torch.int64, device=first.device))}

    def embed(self, step: Int[Tensor, " b"]) -> Float[Tensor, "b w"]:
        """Return the embedding of steps from 0, the values of field ``time``."""
        return sinusoidal_positions(step, self.width)

    def example(self, data: Signature) -> Mapping[str, Any]:
        """Return a factor of the noised data and one of the time."""
        return {
            "factors": {
                "code": factor("transformer(width=16, depth=1, heads=2)", "continuous(dim=8)"),
                "time": factor("mlp(widths=(16,))", "continuous(dim=4)", input="time", pool=True),
            },
            "decoder": "transformer(width=16, depth=1, heads=2)",
        }

    def bind(self, model: Model) -> None:
        """Find the factors of the noised data, of the time, and of the conditions."""
        field, inputs = model.output_field, {name: each.input for name, each in model.factors.items()}
        if field.discrete or any(column.kind == "category" for column in field.columns):
            raise BuildError(
                f"objective diffusion adds noise to real values, and field {model.output!r} holds symbols or categories"
            )
        self.noised = tuple(name for name, read in inputs.items() if read == model.output)
        timed = [name for name, read in inputs.items() if read == "time"]
        if not self.noised:
            raise BuildError(
                f"objective diffusion: no factor reads field {model.output!r}, to which noise is added"
            )
        if not timed:
            raise BuildError(
                "objective diffusion: no factor reads the time; add one: factors={..., 'time': rk.factor('mlp', "
                "input='time', pool=True)}"
            )
        conditions = [name for name in inputs if name not in (*self.noised, *timed)]
        if self.drop and not conditions:
            raise BuildError(
                f"diffusion(drop={self.drop}) drops conditions, and every factor reads the time or {model.output!r}"
            )
        for name, each in model.factors.items():
            if self.drop and each.condition in conditions:
                raise BuildError(
                    f"diffusion(drop={self.drop}) drops the code of {each.condition!r}, which conditions the encoder of factor "
                    f"{name}: let the decoder read it instead"
                )
        center, radius = element_scales(field)
        self.center, self.radius = center.to(self.center), radius.to(self.radius)
        widths = {name: model.latent(name).out_dim for name in conditions} if self.drop else {}
        self.absent = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()}
        )

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch; in evaluation steps and noise are drawn with a fixed seed."""
        generator = None if model.training else torch.Generator().manual_seed(0)
        x = batch[model.output]
        step = (draw_uniform((len(x),), x, generator) * self.steps).long().clamp(max=self.steps - 1)
        share = self.shares[step].to(x).reshape(-1, *[1] * (x.ndim - 1))
        data, noise = self._to_units(x), draw_normal(x, generator)
        view = self._view(model, batch, add_noise(data, noise, share), step)
        codes = model.encode(view, in_range=False)
        if self.drop and model.training:
            codes = self._drop_conditions(codes, draw_uniform((len(x),), x, generator) < self.drop)
        scored = model.score(batch, codes, teacher_forcing=False)
        if not scored.decoded.likelihood.density:
            raise BuildError(
                f"objective diffusion predicts any real value, and likelihood {scored.decoded.likelihood.reference} does not allow "
                "it: give the decoder likelihood='gaussian'"
            )
        target = self._to_data(prediction_target(self.prediction, data, noise, share))
        scored = replace(scored, target=model.as_tokens(target, scored.decoded))
        model.record(**scored.metrics)
        return {"diffusion": scored.loss}

    def _view(self, model: Model, batch: Batch, noised: Tensor, step: Tensor) -> dict[str, Tensor]:
        return {**batch, model.output: self._to_data(noised), "time": self.embed(step).to(noised)}

    def _to_units(self, x: Tensor) -> Tensor:
        """Rescale data to [-1, 1], or standardize its columns."""
        return (x - self.center.to(x)) / self.radius.to(x)

    def _to_data(self, x: Tensor) -> Tensor:
        """Invert ``_to_units``."""
        return self.center.to(x) + self.radius.to(x) * x

    def _drop_conditions(self, codes: Codes, dropped: Tensor) -> Codes:
        """Replace the conditions of some examples (b,) by the learned vectors."""
        changed = {}
        for name, vector in self.absent.items():
            z = codes[name].z
            changed[name] = replace(codes[name], z=torch.where(dropped[:, None, None], vector.to(z), z))
        return codes | changed

    @torch.no_grad()
    def sample(
        self,
        model: Model,
        size: int,
        generator: torch.Generator | None = None,
        *,
        steps: int | None = None,
        eta: float = 1.0,
        guidance: float = 1.0,
        like: Batch | None = None,
        **options: Any,
    ) -> Decoded:
        """Generate examples from noise.

        Args:
            model: the model, whose weights are used in evaluation mode.
            size: number of examples.
            generator: random generator on the model's device.
            steps: number of steps of the sampler, spread evenly over those of the noise; None takes all.
            eta: 1 is the ancestral sampler of DDPM, 0 DDIM (Song et al. 2021, arXiv 2010.02502), without noise.
            guidance: 1 samples under the conditions, above 1 moves away from the prediction without them; needs ``drop``.
            like: a batch (size ...) with the fields of the conditions, and with lengths, where these vary.
            options: none are known.

        Returns:
            The examples ``x`` (b n p); ``params`` are those of the last step's prediction.

        Raises:
            PartArgumentError: an option out of range, ``guidance`` without ``drop``, an unknown option.
            BuildError: the data's length varies and ``like`` is not given, or conditions without ``like``.
        """
        require(
            not options,
            f"diffusion samples without {', '.join(options)}=; its options are steps, eta, guidance and like",
        )
        count = self.steps if steps is None else steps
        require(1 <= count <= self.steps, f"steps must be from 1 to {self.steps}, not {steps}")
        require(0 <= eta <= 1, f"eta must be from 0 to 1, not {eta}")
        if guidance != 1 and not self.drop:
            raise PartArgumentError(
                f"guidance={guidance} needs a model trained with diffusion(drop=), such as 0.1"
            )
        batch = self._blank_batch(model, size, like)
        x = torch.randn(batch[model.output].shape, generator=generator, device=model.device).to(
            batch[model.output]
        )
        times = torch.linspace(self.steps - 1, 0, count).round().long().tolist()
        with eval_mode(model):
            conditions = self._encode_conditions(model, batch)  # once: they are equal at all steps
            for number, time in enumerate(times):
                share = self.shares[time].to(x)
                earlier = (
                    self.shares[times[number + 1]].to(x) if number + 1 < count else torch.ones_like(share)
                )
                predicted, decoded = self._predict(model, batch, x, time, guidance, conditions)
                data = predicted_data(self.prediction, predicted, x, share)
                if model.output_field.range is not None:
                    data = data.clamp(-1, 1)
                last = number + 1 == count
                noise = (
                    None
                    if last or not eta
                    else torch.randn(x.shape, generator=generator, device=x.device).to(x)
                )
                x = previous_step(x, data, share, earlier, 0.0 if last else eta, noise)
        return replace(decoded, x=model.as_tokens(self._to_data(x), decoded))

    def _blank_batch(self, model: Model, size: int, like: Batch | None) -> dict[str, Tensor]:
        """Return a batch with the conditions, and any values in the output's field."""
        needed = {each.input for name, each in model.factors.items()} - {"time", model.output}
        if like is None and (needed or model.output_field.space[0] is None):
            what = f"the conditions {', '.join(sorted(needed))}" if needed else "lengths, which vary"
            raise BuildError(f"sampling needs {what}: give a batch of the data, like=")
        assert model.signature is not None  # output_field has raised otherwise
        batch = dict(model.to_device(model.signature.example(size) if like is None else like))
        if any(len(value) != size for value in batch.values()):
            raise PartArgumentError(
                f"like= holds {len(next(iter(batch.values())))} examples, and size is {size}"
            )
        batch = {name: value for name, value in batch.items() if name != "time"}
        if model.output not in batch:
            batch[model.output] = model.to_device(model.signature.example(size))[model.output]
        return batch

    def _encode_conditions(self, model: Model, batch: Batch) -> Codes:
        """Return the codes of the factors that read neither the noised data nor the time, nor are conditioned on others."""
        names = tuple(
            name
            for name, each in model.factors.items()
            if each.input not in (model.output, "time") and each.condition is None
        )
        return model.encode(batch, factors=names) if names else Codes({})

    def _predict(
        self,
        model: Model,
        batch: Batch,
        x: Tensor,
        time: int,
        guidance: float,
        conditions: Codes | None = None,
    ) -> tuple[Tensor, Decoded]:
        """Return the rescaled prediction in the layout of ``x``, and the output; ``conditions`` are not encoded again."""
        step = torch.full((len(x),), time, dtype=torch.int64, device=x.device)
        given = Codes({}) if conditions is None else conditions
        others = tuple(name for name in model.factors if name not in given)
        codes = model.encode(self._view(model, batch, x, step), factors=others, in_range=False)
        codes = Codes({name: given[name] if name in given else codes[name] for name in model.factors})
        length = model.output_length(batch)
        decoded = model.decode(codes, length=length)
        predicted = self._rescaled(model, decoded)
        if guidance != 1:
            without = self._drop_conditions(codes, torch.ones(len(x), dtype=torch.bool, device=x.device))
            free = self._rescaled(model, model.decode(without, length=length))
            predicted = free + guidance * (predicted - free)
        return predicted, decoded

    def _rescaled(self, model: Model, decoded: Decoded) -> Tensor:
        return self._to_units(from_tokens(decoded.x, decoded.grid or (1,), model.output_field))
