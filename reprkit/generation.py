"""Making new data: codes from the latents' priors, and token after token from a causal decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.likelihoods import draw, tempered
from reprkit.types import Code, Codes, Decoded

if TYPE_CHECKING:
    from reprkit.model import Model


@torch.no_grad()
def sample(
    model: Model,
    size: int,
    generator: torch.Generator | None = None,
    *,
    prior: Model | str | None = None,
    factor: str | None = None,
    temperature: float = 1.0,
) -> Decoded:
    """``size`` new examples: codes drawn from a prior, decoded.

    Args:
        model: with a decoder.
        size: how many.
        generator: of the randomness, on the model's device.
        prior: a model trained on ``codes(model=..., data=...)``, or its folder; each latent's own prior when not given.
        factor: whose codes ``prior`` draws, where the model has several; the others come from their own.
        temperature: of the draws from ``prior``; below 1 they are nearer to its most likely value.

    Raises:
        PartArgumentError: a latent has no prior of its own and none was given.
        BuildError: the prior was trained on other codes, or the model knows no data.
    """
    if prior is None:
        codes = prior_codes(model, size, generator)
    else:
        codes = learned_codes(model, prior, size, generator, factor=factor, temperature=temperature)
    if "causal" in model._decoder().provides:
        return generate(model, codes, size=size, generator=generator)
    return model.decode(codes)


def prior_codes(
    model: Model,
    size: int,
    generator: torch.Generator | None = None,
    length: int = 4,
    factors: Sequence[str] | None = None,
) -> Codes:
    """Codes for ``size`` examples drawn from each factor's own prior; ``length`` where the data's lengths vary.

    Raises:
        PartArgumentError: a latent has no prior.
        BuildError: the model was built without data, so it does not know how many tokens an example has.
    """
    codes = {}
    for name, like in _blank(model, length).items():
        if factors is None or name in factors:
            z = model.latent(name).prior((size, like.length or 1), generator)
            codes[name] = replace(like, z=z)
    return Codes(codes)


def learned_codes(
    model: Model,
    prior: Model | str,
    size: int,
    generator: torch.Generator | None = None,
    *,
    factor: str | None = None,
    temperature: float = 1.0,
) -> Codes:
    """Codes of which one factor's are drawn from a model of them, token after token.

    Raises:
        BuildError: the prior was trained on other codes.
    """
    from reprkit.priors import as_code, check_fit, loaded, only_factor

    name = only_factor(model, factor)
    like, latent = _blank(model)[name], model.latent(name)
    learned = loaded(prior, model.device)
    check_fit(learned, latent, like.length)
    drawn = learned.generate(size=size, temperature=temperature, generator=generator)
    code = as_code(learned.to_batch(drawn)["x"], latent, like)
    others = [each for each in model.factors if each != name]
    return prior_codes(model, size, generator, factors=others) | {name: code}


def _blank(model: Model, length: int = 4) -> dict[str, Code]:
    """For each factor a code that has the layout of one example's, and nothing in it."""
    if model.signature is None:
        raise BuildError("sampling needs the data's signature: build the model with data=")
    example = model.to_device(model.signature.example(1, length))
    made = {}
    for name, path in model.paths.items():
        view = path.view(example)
        count = 1 if path.pool else path.encoder.count(view)
        grid = (1,) if path.pool else path.encoder.grid(view)
        z = torch.zeros(1, count, path.latent.out_dim, device=model.device)
        made[name] = Code(z=z, grid=grid, length=count)
    return made


@torch.no_grad()
def generate(
    model: Model,
    codes: Codes | None = None,
    *,
    size: int = 1,
    length: int | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Sequences drawn token after token from a causal decoder, given codes (then as many as these) or none.

    Args:
        model: a model whose decoder provides "causal".
        codes: what to decode; without them ``size`` unconditional sequences.
        size: how many sequences, without codes.
        length: tokens to draw; the data's own length when it has one.
        temperature: of the draw; 0 takes the most likely value.
        generator: of the randomness, on the model's device.

    Raises:
        BuildError: the decoder is not causal, or no length is known.
    """
    decoder = model.decoder
    if decoder is None or "causal" not in decoder.provides:
        raise BuildError(
            "generate needs a causal decoder, such as gru(causal=True) or transformer(causal=True)"
        )
    if length is None:
        known = model.signature[model.output].space[0] if model.signature else None
        if known is None:
            raise BuildError("the data's lengths vary: say how many tokens to generate, length=")
        length = known
    features, told = model.merge(codes or {}), model.condition(codes or {})
    count = size if features is None else features.x.shape[0]
    start: Any = decoder.start  # which takes ``condition=`` where the decoder has a condition_dim
    state = start(features, size=count, length=length, **told)
    previous: Tensor | None = None
    values, steps = [], []
    for _ in range(length):
        step, state = decoder.step(previous, state)
        previous = draw(step.likelihood, tempered(step.likelihood, step.params, temperature), generator)
        values.append(previous)
        steps.append(step)
    params = {
        name: torch.cat(
            [each.params[name].expand(count, 1, *each.params[name].shape[2:]) for each in steps], 1
        )
        for name in steps[0].params
    }
    return Decoded(
        x=torch.cat(values, 1), likelihood=steps[0].likelihood, params=params, grid=_grid(model, length)
    )


def _grid(model: Model, length: int) -> tuple[int, ...]:
    field = model.signature[model.output] if model.signature else None
    return (length, 1) if field is not None and field.kind == "image" else (length,)
