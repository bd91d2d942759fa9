"""``rk.build``: references and the data's signature in, a model out; what does not fit is refused here, not at step one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Encoder, Latent, Objective, Part
from reprkit.models.factor import Factor, FactorSpec
from reprkit.models.model import Model
from reprkit.models.warm_start import warm_start
from reprkit.models.weighted_sum import objective_from
from reprkit.registry.create import create


def build(
    *,
    data: Any = None,
    encoder: Any = None,
    latent: Any = "continuous",
    decoder: Any = None,
    objective: Any = "reconstruction",
    factors: Mapping[str, FactorSpec] | None = None,
    output: str = "x",
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    start: Model | None = None,
) -> Model:
    """Assemble a model; each part is a reference (``"vq(codes=512)"``) or an instance.

    Args:
        data: a data set, or its Signature: widths and likelihoods are set from it.
        encoder: with ``latent``, short for ``factors={"code": rk.factor(encoder, latent)}``.
        latent: see ``encoder``.
        decoder: None where the objective needs none.
        objective: a reference, or a weighted sum such as ``"reconstruction + 0.1 * contrastive"``.
        factors: name -> ``rk.factor(...)``, for more than one.
        output: the field that the decoder makes.
        weights: loss name -> weight, over the latents' and the objective's own (``"commit"``,
            ``"content.commit"``).
        seed: of the initial weights; the global random state is left as it was.
        start: a model of an earlier stage of training: its factors and decoder are copied into those of the same names (the
            decoder only where both have one), whatever its objective was; the rest starts fresh.

    Raises:
        BuildError: parts that do not fit each other, the data, or those of ``start``.
        UnknownPartError, PartArgumentError, ReferenceSyntaxError: see ``rk.create``.
    """
    if factors is not None and encoder is not None:
        raise BuildError("give either encoder= and latent=, or factors=, not both")
    chosen = dict(
        factors or ({} if encoder is None else {"code": FactorSpec(encoder=encoder, latent=latent)})
    )
    signature = _signature(data)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        goal: Objective = objective_from(objective, data=_reading(signature, output))
        paths = _paths(chosen, signature)
        made = None if decoder is None else _decoder(decoder, paths, signature, output)
        _fit_together(goal, paths, made)
        model = Model(paths, made, goal, signature=signature, output=output, weights=weights)
        _check_weights(model)
        if signature is not None:
            _rehearse(model)
    if start is not None:
        warm_start(model, start)
    return model


def _signature(data: Any) -> Signature | None:
    if data is None or isinstance(data, Signature):
        return data
    if isinstance(data, str):
        from reprkit.data.resolve import dataset

        data = dataset(data)
    if not hasattr(data, "signature"):
        raise BuildError(
            f"data= takes a data set or its signature, not {type(data).__name__}; see rk.dataset"
        )
    return data.signature


def _reading(signature: Signature | None, name: str) -> Signature | None:
    return None if signature is None else signature.reading(name)


def _paths(chosen: Mapping[str, FactorSpec], signature: Signature | None) -> dict[str, Factor]:
    """Every factor built, one that another is conditioned on before that other; in the order of ``chosen``."""
    made: dict[str, Factor] = {}
    waiting = dict(chosen)
    while waiting:
        ready = {n: f for n, f in waiting.items() if getattr(f, "condition", None) in (None, *made)}
        if not ready:
            told = ", ".join(f"{name} on {each.condition!r}" for name, each in waiting.items())
            raise BuildError(
                f"these factors wait for each other, or for one that does not exist: {told}\n"
                f"  factors: {', '.join(chosen)}"
            )
        for name, each in ready.items():
            made[name] = _path(name, each, signature, made)
            del waiting[name]
    return {name: made[name] for name in chosen}


def _path(name: str, factor: FactorSpec, signature: Signature | None, others: Mapping[str, Factor]) -> Factor:
    if not name.isidentifier():
        raise BuildError(
            f"a factor's name must be a plain word, not {name!r}: it names weights in the checkpoint"
        )
    if not isinstance(factor, FactorSpec):
        raise BuildError(f"factor {name}: write rk.factor(encoder, latent), not {factor!r}")
    encoder = create("encoder", factor.encoder, data=_reading(signature, factor.input))
    latent = create("latent", factor.latent)
    for part, kind in ((encoder, Encoder), (latent, Latent)):
        if not isinstance(part, kind):
            raise BuildError(f"factor {name}: {type(part).__name__} is not a {kind.__name__}")
    if factor.condition is not None and encoder.condition_dim is None:
        raise BuildError(
            f"factor {name} is conditioned on {factor.condition!r}, and {_named(encoder)} cannot be told of another factor: "
            "leave condition= out, or use an encoder that has a condition_dim"
        )
    condition = None if factor.condition is None else others[factor.condition]
    return Factor(name, encoder, latent, input=factor.input, pool=factor.pool, condition=condition)


def _decoder(decoder: Any, paths: Mapping[str, Factor], signature: Signature | None, output: str) -> Decoder:
    tokens = None
    if signature is not None and paths:
        example, longer = signature.example(1, 4), signature.example(1, 8)
        counts, again = ([p.count(each) for p in paths.values()] for each in (example, longer))
        tokens = max(counts) if counts == again else None  # None: it varies with the example's length
    made = create("decoder", decoder, data=_reading(signature, output), tokens=tokens)
    if not isinstance(made, Decoder):
        raise BuildError(f"{type(made).__name__} is not a Decoder")
    return made


def _fit_together(goal: Objective, paths: Mapping[str, Factor], decoder: Decoder | None) -> None:
    name = goal.title
    if "decoder" in goal.needs and decoder is None:
        raise BuildError(f"objective {name} needs a decoder: give decoder=")
    if decoder is not None and "decoder" not in goal.needs:
        raise BuildError(
            f"objective {name} never uses a decoder: leave decoder= out, or add an objective that does "
            f'("reconstruction + {_added(goal)}")'
        )
    if "encoder" in goal.needs and not paths:
        raise BuildError(f"objective {name} needs an encoder: give encoder= or factors=")
    if not paths and decoder is None:
        raise BuildError("there is nothing to build: give encoder=, decoder= or factors=")
    if "keep" in goal.needs:
        for path in paths.values():
            if "keep" not in path.encoder.provides:
                raise BuildError(
                    f"objective {name} shows encoders only some tokens (keep), and {_named(path.encoder)} cannot "
                    "read only some: use vit, gru or transformer, or denoising with a mask corruption"
                )
    if "causal" in goal.needs and (decoder is None or "causal" not in decoder.provides):
        raise BuildError(
            f"objective {name} needs a causal decoder: gru(causal=True) or transformer(causal=True)"
        )
    if "indices" in goal.needs:
        for path in paths.values():
            if path.latent.vocab is None:
                raise BuildError(f"objective {name} needs indices, and {_named(path.latent)} is continuous")


def _added(goal: Objective) -> str:
    """The objective's members as terms of a sum, without their arguments: ``0.1 * contrastive``."""
    names = [_named(each).rpartition("/")[2] for each in goal.members]
    weights = goal.weights if len(names) > 1 else (0.1,)
    terms = zip(weights, names, strict=True)
    return " + ".join(name if weight == 1 else f"{weight:g} * {name}" for weight, name in terms)


def _named(part: Part) -> str:
    return part.qualified or type(part).__name__


def _check_weights(model: Model) -> None:
    """Weights are checked by name as far as names are known before a step: a factor's prefix must exist."""
    for name, value in model.weights.items():
        head = name.partition(".")[0]
        if "." in name and head not in model.factors:
            raise BuildError(
                f"weights: no factor named {head!r}; there are: {', '.join(model.factors) or 'none'}"
            )
        if not isinstance(value, int | float):
            raise BuildError(f"weights: {name!r} must be a number, not {value!r}")


@torch.no_grad()
def _rehearse(model: Model) -> None:
    """Run two blank examples through, so that widths and shapes that do not fit are found now."""
    assert model.signature is not None
    model.eval()
    example = model.to_device(model.signature.example(2))
    codes = model.encode(example) if model.factors else None
    if model.decoder is not None:
        scored = model.score(example, codes)
        made, wanted = scored.decoded.x.shape, scored.target.shape
        if made != wanted:
            raise BuildError(
                f"the decoder made {tuple(made)} for {model.output!r}, which reads as {tuple(wanted)}"
            )
    model.train()
