"""Generation of new data: decoding codes sampled from a prior, and token-by-token sampling from a causal decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.data.signature import LAYOUTS, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.interfaces import require
from reprkit.models.grid import row_grid, step_grid, to_tokens
from reprkit.models.token_sampler import TokenSampler
from reprkit.types import Batch, Code, Codes, Decoded
from reprkit.utils.modes import eval_mode

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
    output: str | None = None,
    like: Batch | None = None,
    **options: Any,
) -> Decoded:
    """Sample ``size`` new examples: draw codes from a prior and decode them.

    Where an objective defines how the model generates (diffusion), it samples instead, with ``options``; see its ``sample``.

    Where the data's length varies, codes from a latent's own prior are as long as that of ``Signature.example``, and a causal
    decoder raises: call ``generate(codes, length=...)``.

    Args:
        model: a model with a decoder.
        size: number of examples.
        generator: random generator on the model's device.
        prior: a model trained on ``codes(model=..., data=...)``, or its folder; by default each latent's own prior.
        factor: the factor whose codes ``prior`` generates, where the model has several; the others use their own priors.
        temperature: temperature of the draws from ``prior``; below 1 they are closer to its most likely value.
        output: the output to decode, where there are several; only the factors that it reads are drawn.
        like: a batch (size ...) with the conditions: the fields that the factors of ``prior`` read, or an objective's sampler.
        options: of the objective's sampler; none otherwise.

    Raises:
        PartArgumentError: a latent has no prior of its own and ``prior`` was not given, or an argument that this way of sampling
            does not have.
        BuildError: the prior was trained on other codes, the model was built without data, or there is no such output.
    """
    _require_signature(model)
    generating = [member for member in model.objective.members if member.generates]
    if generating and prior is None:
        given = {"factor": factor, "temperature": None if temperature == 1 else temperature, "output": output}
        ignored = ", ".join(f"{name}=" for name, value in given.items() if value is not None)
        require(
            not ignored,
            f"objective {model.objective.title} has a sampler of its own, which takes no {ignored}",
        )
        return generating[0].sample(
            model, size, generator, **options, **({} if like is None else {"like": like})
        )
    if options:
        raise PartArgumentError(
            f"no option {next(iter(options))!r}: objective {model.objective.title} has no sampler of its own, and codes from a "
            "prior are sampled with prior, factor, temperature and output"
        )
    to = model.get_output(output)
    if prior is None:
        require(
            like is None,
            "like= holds the conditions of a prior= or of a diffusion, and this model has neither: omit it",
        )
        codes = prior_codes(model, size, generator, factors=to.reads)
    else:
        codes = learned_codes(
            model, prior, size, generator, factor=factor, temperature=temperature, like=like
        )
    if "causal" in to.decoder.provides:
        return generate(model, codes, size=size, generator=generator, output=output)
    return model.decode(codes, output=output)


def prior_codes(
    model: Model,
    size: int,
    generator: torch.Generator | None = None,
    factors: Sequence[str] | None = None,
) -> Codes:
    """Sample codes for ``size`` examples from the priors of ``factors``, by default of all.

    Raises:
        PartArgumentError: a latent has no prior.
        BuildError: the model was built without data, so the number of tokens an example is unknown.
    """
    codes = {}
    for name, like in _empty_codes(model).items():
        if factors is None or name in factors:
            z = model.latent(name).prior((size, like.length or 1), generator)
            codes[name] = replace(like, z=z.to(model.factors[name].code_dtype))
    return Codes(codes)


def learned_codes(
    model: Model,
    prior: Model | str,
    size: int,
    generator: torch.Generator | None = None,
    *,
    factor: str | None = None,
    temperature: float = 1.0,
    like: Batch | None = None,
) -> Codes:
    """Sample the codes of one factor token by token from a learned prior, and those of the others from their own priors.

    A prior with factors of its own is conditioned on the fields of ``like`` (size ...) that these read.

    Raises:
        BuildError: the prior was trained on other codes, or it has factors and ``like`` is not given.
        PartArgumentError: ``like`` for a prior without factors, or of another number of examples.
    """
    from reprkit.models.factor import resolve_factor
    from reprkit.models.priors import batch_to_code, check_fit, load_prior

    name = resolve_factor(model.factors, factor, "sampling by a prior")
    empty, latent = _empty_codes(model)[name], model.latent(name)
    learned = load_prior(prior, model.device)
    check_fit(learned, latent, empty.length)
    conditions = _prior_conditions(learned, size, like)
    with eval_mode(learned):
        samples = learned.generate(conditions, size=size, temperature=temperature, generator=generator)
    code = batch_to_code(learned.to_batch(samples)["x"], latent, empty)
    others = [other for other in model.factors if other != name]
    return prior_codes(model, size, generator, factors=others) | {name: code}


def _prior_conditions(prior: Model, size: int, like: Batch | None) -> Codes | None:
    """Return the codes of a prior's own factors, from the fields of ``like``; None for a prior without factors."""
    fields = {each.input for each in prior.factors.values()}
    if not fields:
        require(like is None, "like= holds the conditions of a prior, and this one has no factors: omit it")
        return None
    if like is None or not fields <= set(like):
        raise BuildError(
            f"the prior is conditioned on {', '.join(sorted(fields))}: give a batch with these fields, like="
        )
    given = {name: value for name, value in like.items() if name.removesuffix("_mask") in fields}
    for value in given.values():
        require(len(value) == size, f"like= holds {len(value)} examples, and size is {size}")
    with eval_mode(prior):
        return prior.encode(prior.to_device(given))


def _require_signature(model: Model) -> Signature:
    if model.signature is None:
        raise BuildError("sampling needs the data's signature: build the model with data=")
    return model.signature


def _empty_codes(model: Model) -> dict[str, Code]:
    """Return a code of zeros for each factor, with the layout of one example's code."""
    example = model.to_device(_require_signature(model).example(1))
    codes = {}
    for name, factor in model.factors.items():
        view = factor.view(example)
        count = 1 if factor.pool else factor.encoder.count(view)
        grid = (1,) if factor.pool else factor.encoder.grid(view)
        z = torch.zeros(1, count, factor.latent.out_dim, dtype=factor.code_dtype, device=model.device)
        codes[name] = Code(z=z, grid=grid, length=count)
    return codes


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
    output: str | None = None,
) -> Decoded:
    """Generate sequences token by token with a causal decoder, one for each example of the codes, or unconditionally.

    Args:
        model: a model whose decoder provides "causal".
        codes: the codes to decode; None for unconditional sequences.
        size: number of sequences, without codes; by default as many as ``prime`` has, or one.
        length: number of tokens of a whole sequence, ``prime`` included; by default the data's own length, if it is fixed.
        prime: the beginning to continue, in the data's own layout and units: one for all ((t,) tokens, (t c) frames, (h w c)
            rows) or one for each sequence (b ...).  It is part of the output, with its likelihood under the model.
        temperature: temperature of the draws; 0 takes the most likely value.
        top_k: draw from the k most likely symbols only.
        top_p: draw only from the smallest set of most likely symbols whose probability reaches p, after ``top_k``.
        seed: random seed; equal seeds give equal sequences.
        generator: random generator on the model's device, instead of ``seed``.
        output: the output to generate, where there are several.

    Returns:
        ``x`` (b n p), with ``prime`` and the drawn tokens, and the likelihood's parameters as the model predicts them, before
        temperature, ``top_k`` and ``top_p``.

    Raises:
        BuildError: the decoder is not causal, or the length is not known.
        DataError: ``prime`` does not fit the data, or is not shorter than ``length``.
        PartArgumentError: an option out of its range, or both a seed and a generator.
    """
    outputs = model.outputs
    to = model.get_output(output) if outputs else None
    if to is None or "causal" not in to.decoder.provides:
        raise BuildError(
            "generate needs a causal decoder, such as gru(causal=True), lstm(causal=True) or transformer(causal=True)"
        )
    decoder = to.decoder
    if length is None:
        known = model.signature[to.field_name].steps if model.signature else None
        if known is None:
            raise BuildError("the data's lengths vary: give the number of tokens to generate, length=")
        length = known
    for name, value in {"length": length, "size": 1 if size is None else size}.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PartArgumentError(f"{name} must be a whole number from 1, not {value!r}")
    sampler = TokenSampler(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        generator=generator,
        device=model.device,
    )
    features, condition = model.merge(codes or {}, output), model.condition(codes or {}, output)
    context = features.x if features is not None else condition.get("condition")
    expected = size if context is None else len(context)
    primed = None if prime is None else prime_to_tokens(model, prime, length, expected, output)
    count = len(context) if context is not None else len(primed) if primed is not None else (size or 1)
    start: Any = decoder.start  # takes ``condition=`` only where the decoder has a condition_dim
    state = start(features, size=count, length=length, **condition)
    previous: Tensor | None = None
    values, steps = [], []
    for position in range(length):
        step, state = decoder.step(previous, state)
        if primed is not None and position < primed.shape[1]:
            previous = primed[:, position : position + 1]
        else:
            previous = sampler(step.likelihood, step.params)
        values.append(previous)
        steps.append(step.params)
    params = {
        name: torch.cat(
            [step_params[name].expand(count, 1, *step_params[name].shape[2:]) for step_params in steps], 1
        )
        for name in steps[0]
    }
    return Decoded(
        x=torch.cat(values, 1),
        likelihood=step.likelihood,
        params=params,
        grid=step_grid(to.field if to.signature else None, length),
    )


def prime_to_tokens(
    model: Model, prime: Tensor, length: int, size: int | None, output: str | None = None
) -> Tensor:
    """Convert ``prime`` to tokens (b n p) on the model's device, for ``size`` sequences where that is known.

    Raises:
        DataError: a layout or type other than the data's, symbols outside of its vocabulary, another number of sequences, or
            not fewer tokens than ``length``.
    """
    field = model.get_output(output).field
    value = prime.detach().to(model.device) if isinstance(prime, Tensor) else None
    axes = LAYOUTS[field.kind]
    expected = f"prime= is the beginning of {field.kind} data, ({' '.join(axes)}) or (b {' '.join(axes)})"
    if value is None or value.ndim not in (len(axes), len(axes) + 1):
        raise DataError(f"{expected}, not {type(prime).__name__ if value is None else tuple(value.shape)}")
    value = value if value.ndim > len(axes) else value.unsqueeze(0)
    if field.discrete == value.is_floating_point():
        raise DataError(
            f"{expected}: {'int64 symbols' if field.discrete else 'real values'}, not {value.dtype}"
        )
    if tuple(value.shape[2:]) != tuple(field.shape[1:]):
        raise DataError(
            f"{expected}; one time step has the shape {tuple(field.shape[1:])}, not {tuple(value.shape[2:])}"
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
    if value.shape[1] == 0 or not len(value):
        raise DataError("prime= is empty: give at least one time step, or leave it out")
    tokens = to_tokens(value, row_grid(field, value), field.kind)
    if tokens.shape[1] >= length:
        raise DataError(
            f"prime= has {tokens.shape[1]} tokens, which must be fewer than length={length}: give a larger length="
        )
    if size is not None and len(tokens) not in (1, size):
        raise DataError(
            f"prime= holds {len(tokens)} beginnings for {size} sequences: give one, or one for each"
        )
    return tokens.expand(size or len(tokens), -1, -1)
