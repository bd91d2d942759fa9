"""Generators of pictures and of their codes under a condition, by diffusion or by symbols; arithmetic of codes on the sphere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import reprkit as rk
from reprkit.data import CodesOf

if TYPE_CHECKING:
    from reprkit import Dataset, Model

Fit = Callable[["Model", "Dataset", str], "Model"]
_LEAST = 1e-7
# DDIM takes no noise, DDPM that of the ancestral sampler.
SAMPLERS = {
    f"{name}, {steps} steps": {"eta": eta, "steps": steps}
    for name, eta in (("DDIM", 0.0), ("DDPM", 1.0))
    for steps in (50, 10)
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A trained generator of one field, given a vector field.

    Attributes:
        model: that samples.
        field: that it generates.
        given: that it is conditioned on.
        options: of ``model.sample``.
        samplers: name -> options of other samplers of the same model, to compare with.
    """

    model: Model
    field: str
    given: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    samplers: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @torch.no_grad()
    def draw(self, vectors: Float[Tensor, "n d"], *, seed: int = 0, **options: Any) -> Tensor:
        """Generate one value of ``field`` for each vector, in the data's layout, units and range.

        Args:
            vectors: values of field ``given``.
            seed: of the draw; vectors at one place of equal batches start from equal noise.
            options: of ``model.sample``, instead of the stage's own.
        """
        generator = torch.Generator(self.model.device).manual_seed(seed)
        chosen = {**self.options, **options}
        decoded = self.model.sample(len(vectors), generator, like={self.given: vectors}, **chosen)
        values, limits = self.model.to_batch(decoded)[self.field].cpu(), self.model.output_field.range
        return values if limits is None else values.clamp(*limits)


def diffusion_stage(
    data: Dataset,
    field: str,
    given: str,
    *,
    fit: Fit,
    encoder: str,
    latent: str,
    decoder: str,
    prediction: str,
    drop: float = 0.1,
    seed: int = 0,
    **options: Any,
) -> Stage:
    """Train a diffusion of ``field`` under the vectors ``given``, and return it with the options of its sampler.

    Args:
        data: the training data, with both fields.
        field: what is generated.
        given: the condition, a vector.
        fit: trains a model on data, under a name.
        encoder: of the noised values.
        latent: between it and the decoder.
        decoder: of the prediction.
        prediction: "noise", "data" or "velocity".
        drop: probability of training without the condition, for guidance.
        seed: of the weights.
        options: of the sampler: steps, eta, guidance.
    """
    factors = {
        "noised": rk.factor(encoder, latent, input=field),
        "time": rk.factor("mlp(widths=(128,))", "continuous(dim=128)", input="time", pool=True),
        "given": rk.factor("mlp(widths=(128,))", "continuous(dim=128)", input=given, pool=True),
    }
    objective = rk.create("objective", "diffusion", prediction=prediction, schedule="cosine", drop=drop)
    model = rk.build(
        data=data, factors=factors, decoder=decoder, output=field, objective=objective, seed=seed
    )
    return Stage(fit(model, data, f"{field}-diffusion"), field, given, options, SAMPLERS)


def symbol_stage(
    data: Dataset,
    field: str,
    given: str,
    *,
    fit: Fit,
    encoder: str,
    latent: str,
    decoder: str,
    writer: str,
    seed: int = 0,
    **options: Any,
) -> Stage:
    """Train an autoencoder of ``field`` with a discrete latent, and a causal model of its symbols under the vectors ``given``.

    Args:
        data: the training data, with both fields.
        field: what is generated.
        given: the condition, a vector.
        fit: trains a model on data, under a name.
        encoder: of the autoencoder.
        latent: its discrete code.
        decoder: of the autoencoder.
        writer: causal decoder of symbols.
        seed: of the weights.
        options: of the draw: temperature.
    """
    quantizer = rk.build(
        data=data,
        factors={"code": rk.factor(encoder, latent, input=field)},
        decoder=decoder,
        output=field,
        objective="reconstruction",
        seed=seed,
    )
    quantizer = fit(quantizer, data, f"{field}-quantizer")
    symbols = CodesOf(quantizer, data, keep=(given,))
    factors = {"given": rk.factor("mlp(widths=(128,))", "continuous(dim=128)", input=given, pool=True)}
    prior = rk.build(
        data=symbols, factors=factors, decoder=writer, output="x", objective="autoregressive", seed=seed
    )
    prior = fit(prior, symbols, f"{field}-symbols")
    return Stage(quantizer, field, given, {"prior": prior, **options})


def draw_nearest(stage: Stage, vectors: Float[Tensor, "n d"], *, count: int = 2, seed: int = 0) -> Tensor:
    """Draw ``count`` codes for each vector, and return the one of the largest cosine with it (Ramesh et al. 2022, section 2.2)."""
    drawn = torch.stack([stage.draw(vectors, seed=seed + number) for number in range(count)])
    best = F.cosine_similarity(drawn, vectors.expand_as(drawn), dim=-1).argmax(0)
    return drawn[best, torch.arange(len(vectors))]


def slerp(one: Float[Tensor, "n d"], other: Float[Tensor, "n d"], share: float) -> Float[Tensor, "n d"]:
    """Return the unit vectors at ``share`` of the arc from ``one`` to ``other``, in [0, 1] (Shoemake 1985, section 3.3)."""
    one, other = F.normalize(one, dim=-1), F.normalize(other, dim=-1)
    angle = (one * other).sum(-1, keepdim=True).clamp(-1, 1).acos()
    near = angle.sin() < _LEAST  # equal or opposite: no arc is defined, and the first vector is returned
    safe = torch.where(near, torch.ones_like(angle), angle)
    arc = ((1 - share) * safe).sin() / safe.sin() * one + (share * safe).sin() / safe.sin() * other
    return torch.where(near, one, arc)


def text_difference(
    code: Float[Tensor, "n d"], old: Float[Tensor, "n d"], new: Float[Tensor, "n d"], share: float
) -> Float[Tensor, "n d"]:
    """Rotate a picture's code by ``share`` of the arc to the difference of two texts' codes (Ramesh et al. 2022, section 3.3)."""
    return slerp(code, F.normalize(new - old, dim=-1), share)
