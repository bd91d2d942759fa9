"""Making new data: codes from the latents' priors, and token after token from a causal decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.data.signature import LAYOUTS
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.models.grid import row_grid, to_tokens
from reprkit.models.token_sampler import TokenSampler
from reprkit.types import Code, Codes, Decoded

if TYPE_CHECKING:
    from reprkit.models.model import Model


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
    if "causal" in model.get_decoder().provides:
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
    for name, like in _empty_codes(model, length).items():
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
    from reprkit.models.factor import resolve_factor
    from reprkit.models.priors import batch_to_code, check_fit, load_prior

    name = resolve_factor(model.factors, factor, "sampling by a prior")
    like, latent = _empty_codes(model)[name], model.latent(name)
    learned = load_prior(prior, model.device)
    check_fit(learned, latent, like.length)
    drawn = learned.generate(size=size, temperature=temperature, generator=generator)
    code = batch_to_code(learned.to_batch(drawn)["x"], latent, like)
    others = [each for each in model.factors if each != name]
    return prior_codes(model, size, generator, factors=others) | {name: code}


def _empty_codes(model: Model, length: int = 4) -> dict[str, Code]:
    """For each factor a code that has the layout of one example's, and nothing in it."""
    if model.signature is None:
        raise BuildError("sampling needs the data's signature: build the model with data=")
    example = model.to_device(model.signature.example(1, length))
    made = {}
    for name, path in model.factors.items():
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
    size: int | None = None,
    length: int | None = None,
    prime: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Sequences drawn token after token from a causal decoder, given codes (then as many as these) or none.

    Args:
        model: a model whose decoder provides "causal".
        codes: what to decode; without them unconditional sequences.
        size: how many sequences, without codes; as many as the beginnings that ``prime`` gives, or one.
        length: tokens of a whole sequence, its given beginning among them; the data's own length when it has one.
        prime: a beginning to go on from, in the data's own layout and units, of one example ((t,) tokens, (t c) frames, (h w c)
            rows) or one for each (b ...).  It is part of what comes back, with the likelihood that the model gives it.
        temperature: of the draw; 0 takes the most likely value.
        top_k: draw from the k likeliest symbols only.
        top_p: draw only from the fewest symbols whose probability reaches p, after ``top_k``.
        seed: of the randomness; the same seed gives the same sequences.
        generator: in its place, on the model's device.

    Returns:
        ``x`` (b n p), what was given and drawn, and the likelihood's parameters as the model said them, before temperature,
        ``top_k`` and ``top_p``.

    Raises:
        BuildError: the decoder is not causal, or no length is known.
        DataError: ``prime`` does not fit the data, or is as long as the whole.
        PartArgumentError: an option out of its range, or both a seed and a generator.
    """
    decoder = model.decoder
    if decoder is None or "causal" not in decoder.provides:
        raise BuildError(
            "generate needs a causal decoder, such as gru(causal=True), lstm(causal=True) or transformer(causal=True)"
        )
    if length is None:
        known = model.signature[model.output].space[0] if model.signature else None
        if known is None:
            raise BuildError("the data's lengths vary: say how many tokens to generate, length=")
        length = known
    for name, value in {"length": length, "size": 1 if size is None else size}.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PartArgumentError(f"{name} must be a whole number from 1, not {value!r}")
    drawer = TokenSampler(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        generator=generator,
        device=model.device,
    )
    features, told = model.merge(codes or {}), model.condition(codes or {})
    held = features.x if features is not None else told.get("condition")
    given = (
        None if prime is None else prime_to_tokens(model, prime, length, size if held is None else len(held))
    )
    count = len(held) if held is not None else len(given) if given is not None else (size or 1)
    start: Any = decoder.start  # which takes ``condition=`` where the decoder has a condition_dim
    state = start(features, size=count, length=length, **told)
    previous: Tensor | None = None
    values, steps = [], []
    for place in range(length):
        step, state = decoder.step(previous, state)
        if given is not None and place < given.shape[1]:
            previous = given[:, place : place + 1]
        else:
            previous = drawer(step.likelihood, step.params)
        values.append(previous)
        steps.append(step.params)
    params = {
        name: torch.cat([each[name].expand(count, 1, *each[name].shape[2:]) for each in steps], 1)
        for name in steps[0]
    }
    return Decoded(
        x=torch.cat(values, 1), likelihood=step.likelihood, params=params, grid=_output_grid(model, length)
    )


def prime_to_tokens(model: Model, prime: Tensor, length: int, size: int | None) -> Tensor:
    """A given beginning as tokens (b n p) on the model's device, for ``size`` sequences where that is known.

    Raises:
        DataError: another layout or type than the data's, symbols that it does not have, another number of sequences, or no room.
    """
    field = model.output_field
    value = prime.detach().to(model.device) if isinstance(prime, Tensor) else None
    axes = LAYOUTS[field.kind]
    asked = f"prime= is the beginning of {field.kind} data, ({' '.join(axes)}) or (b {' '.join(axes)})"
    if value is None or value.ndim not in (len(axes), len(axes) + 1):
        raise DataError(f"{asked}, not {type(prime).__name__ if value is None else tuple(value.shape)}")
    value = value if value.ndim > len(axes) else value.unsqueeze(0)
    if field.discrete == value.is_floating_point():
        raise DataError(f"{asked}: {'int64 symbols' if field.discrete else 'real values'}, not {value.dtype}")
    if tuple(value.shape[2:]) != tuple(field.shape[1:]):
        raise DataError(
            f"{asked}; one place has the shape {tuple(field.shape[1:])}, not {tuple(value.shape[2:])}"
        )
    value = value.long() if field.discrete else value.float()
    if (
        field.discrete
        and value.numel()
        and not 0 <= int(value.min()) <= int(value.max()) < int(field.vocab or 0)
    ):
        raise DataError(
            f"prime= holds symbols from {int(value.min())} to {int(value.max())}, and the data has 0 to "
            f"{int(field.vocab or 0) - 1}"
        )
    if not value.isfinite().all():
        raise DataError("prime= holds values that are not finite")
    tokens = to_tokens(value, row_grid(field, value), field.kind)
    if tokens.shape[1] >= length:
        raise DataError(
            f"prime= has {tokens.shape[1]} tokens, and the whole is to have {length}: say a larger length="
        )
    if size is not None and len(tokens) not in (1, size):
        raise DataError(
            f"prime= holds {len(tokens)} beginnings for {size} sequences: give one, or one for each"
        )
    return tokens.expand(size or len(tokens), -1, -1)


def _output_grid(model: Model, length: int) -> tuple[int, ...]:
    field = model.signature[model.output] if model.signature else None
    return (length, 1) if field is not None and field.kind == "image" else (length,)
