"""``rk.build``: assemble a model from references and the data's signature, and check that the parts fit each other."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from reprkit.data.signature import Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.interfaces import Decoder, Encoder, Latent, Objective, Part
from reprkit.layers.trees import check_tree
from reprkit.models.factor import Factor, FactorSpec, resolve_factor
from reprkit.models.model import Model
from reprkit.models.output import OutputSpec
from reprkit.models.warm_start import warm_start
from reprkit.models.weighted_sum import objective_from, with_reconstruction
from reprkit.registry.create import create
from reprkit.types import Code


def build(
    *,
    data: Any = None,
    encoder: Any = None,
    latent: Any = "continuous",
    decoder: Any = None,
    objective: Any = "reconstruction",
    factors: Mapping[str, FactorSpec] | None = None,
    output: str = "x",
    weights: Mapping[str, float | str] | None = None,
    seed: int = 0,
    start: Model | None = None,
    freeze: str | Sequence[str] = (),
) -> Model:
    """Assemble a model.  Each part is a reference (``"vq(codes=512)"``) or an instance.

    Args:
        data: a data set, or its Signature, from which widths and likelihoods are derived.
        encoder: ``encoder=`` and ``latent=`` are short for ``factors={"code": rk.factor(encoder, latent)}``.
        latent: see ``encoder``.
        decoder: the decoder; None if the objective needs none.  For several outputs: name -> ``rk.output(...)``.
        objective: a reference, or a weighted sum such as ``"reconstruction + 0.1 * contrastive"``.
        factors: name -> ``rk.factor(...)``, for several factors.
        output: the field that the decoder reconstructs, where there is one.
        weights: loss name -> weight; these replace a latent's own weights and multiply an objective's (``"commit"``,
            ``"content.commit"``).  A schedule is ``"warmup(2000)"``, ``"decay(2000)"`` or ``"cyclic(2000)"``, also ``"0.5 *
            warmup(2000)"``: a number of optimizer steps of this model; evaluation uses the weight at its end.
        seed: seed of the initial weights; the global random state is not changed.
        start: a model from an earlier stage of training, for a warm start: its factors and decoder are copied into those of the
            same names (the decoder only if both have one), whatever its objective; the rest is newly initialized.
        freeze: names of parts that are not trained: see ``Model.freeze``.

    Raises:
        BuildError: parts that do not fit each other, the data, or ``start``; or a default dtype other than float32.
        UnknownPartError, PartArgumentError, ReferenceSyntaxError: see ``rk.create``.
    """
    if torch.get_default_dtype() != torch.float32:
        raise BuildError(
            f"torch's default dtype is {str(torch.get_default_dtype()).removeprefix('torch.')}, and models are built in float32: "
            "call torch.set_default_dtype(torch.float32) first; precision='fp64' of the loop trains in float64"
        )
    if factors is not None and encoder is not None:
        raise BuildError("give either encoder= and latent=, or factors=, not both")
    if isinstance(decoder, Mapping) and output != "x":
        raise BuildError(
            f"output={output!r} is the field of one decoder; of several name it in rk.output(..., field=)"
        )
    specs = dict(factors or ({} if encoder is None else {"code": FactorSpec(encoder=encoder, latent=latent)}))
    signature = get_signature(data)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        several = isinstance(decoder, Mapping)
        # The objective's data is that of one output; with several there is no field that it could call x.
        objective_data = None if several else _read_field_as_x(signature, output)
        objective = with_reconstruction(objective_from(objective, data=objective_data), data=objective_data)
        signature = _with_computed_fields(signature, objective)
        built = _build_factors(specs, signature)
        if several:
            decoder = _build_outputs(decoder, built, signature)
            _check_all_are_read(built, [reads for _, _, reads in decoder.values()], objective)
        elif decoder is not None:
            decoder = _build_decoder(decoder, built, signature, output)
        _check_compatibility(objective, built, decoder)
        model = Model(built, decoder, objective, signature=signature, output=output, weights=weights)
        bind_parts(model)
        _check_weights(model)
        if signature is not None:
            _dry_run(model)
    if start is not None:
        warm_start(model, start)
    names = (freeze,) if isinstance(freeze, str) else tuple(freeze)
    if names:
        model.freeze(*names)
    return model


def bind_parts(model: Model) -> None:
    """Call ``bind`` of every part of the model once: encoders, latents and the decoder, then the objective."""
    tops: list[nn.Module] = [part for f in model.factors.values() for part in (f.encoder, f.latent)]
    tops += [output.decoder for output in model.outputs.values()]
    found = [module for top in tops for module in _inner_parts_first(top)]
    for part in dict.fromkeys(found):
        with part.error_context():
            part.bind(model)
    model.objective.bind(model)


def _inner_parts_first(top: nn.Module) -> list[Part]:
    return [module for module in reversed(list(top.modules())) if isinstance(module, Part)]


def get_signature(data: Any) -> Signature | None:
    """Return the signature of a data set, of a reference to one, or the signature itself.

    Raises:
        BuildError: it is something else.
    """
    if data is None or isinstance(data, Signature):
        return data
    if not hasattr(data, "signature"):
        from reprkit.data.resolve import dataset, is_source

        data = dataset(data) if is_source(data) else data
    if not hasattr(data, "signature"):
        raise BuildError(
            f"data= takes a data set or its signature, not {type(data).__name__}; see rk.dataset"
        )
    return data.signature


def _read_field_as_x(signature: Signature | None, name: str) -> Signature | None:
    return None if signature is None else signature.reading(name)


def _with_computed_fields(signature: Signature | None, objective: Objective) -> Signature | None:
    """Return the signature with the fields that the objective computes."""
    if signature is None:
        return None
    with objective.error_context():
        computed = objective.fields(signature)
    for name, field in computed.items():
        # The signature of a loaded model already has the field.
        if name in signature and signature[name] != field:
            raise BuildError(
                f"objective {objective.title} computes a field {name!r}, and the data has another one of that name: "
                "rename the data's"
            )
    return Signature({**signature, **computed}) if computed else signature


def _build_factors(specs: Mapping[str, FactorSpec], signature: Signature | None) -> dict[str, Factor]:
    """Build all factors, each after the one that it is conditioned on; they are returned in the order of ``specs``."""
    factors: dict[str, Factor] = {}
    pending = dict(specs)
    while pending:
        ready = {n: s for n, s in pending.items() if getattr(s, "condition", None) in (None, *factors)}
        if not ready:
            conditions = ", ".join(f"{name} on {spec.condition!r}" for name, spec in pending.items())
            raise BuildError(
                f"these factors are conditioned on each other, or on one that does not exist: {conditions}\n"
                f"  factors: {', '.join(specs)}"
            )
        for name, spec in ready.items():
            factors[name] = _build_factor(name, spec, signature, factors)
            del pending[name]
    return {name: factors[name] for name in specs}


def _build_factor(
    name: str, spec: FactorSpec, signature: Signature | None, others: Mapping[str, Factor]
) -> Factor:
    if not name.isidentifier():
        raise BuildError(
            f"a factor's name must be a plain word, not {name!r}: it is part of the names of weights in the checkpoint"
        )
    if not isinstance(spec, FactorSpec):
        raise BuildError(f"factor {name}: write rk.factor(encoder, latent), not {spec!r}")
    data = _read_field_as_x(signature, spec.input)
    encoder = create("encoder", spec.encoder, data=data)
    latent = create("latent", spec.latent, data=data)
    for part, kind in ((encoder, Encoder), (latent, Latent)):
        if not isinstance(part, kind):
            raise BuildError(f"factor {name}: {type(part).__name__} is not a {kind.__name__}")
    if spec.condition is not None and encoder.condition_dim is None:
        raise BuildError(
            f"factor {name} is conditioned on {spec.condition!r}, and {_part_name(encoder)} takes no condition: "
            "omit condition=, or use an encoder that has a condition_dim"
        )
    condition = None if spec.condition is None else others[spec.condition]
    return Factor(name, encoder, latent, input=spec.input, pool=spec.pool, condition=condition)


def _build_decoder(
    decoder: Any, factors: Mapping[str, Factor], signature: Signature | None, output: str
) -> Decoder:
    tokens = None
    if signature is not None and factors:
        examples = [signature.example(1, length) for length in (4, 8)]
        short, long = ([factor.count(example) for factor in factors.values()] for example in examples)
        tokens = max(short) if short == long else None  # None: it varies with the example's length
    part = create("decoder", decoder, data=_read_field_as_x(signature, output), tokens=tokens)
    if not isinstance(part, Decoder):
        raise BuildError(f"{type(part).__name__} is not a Decoder")
    return part


def _build_outputs(
    specs: Mapping[str, OutputSpec], factors: Mapping[str, Factor], signature: Signature | None
) -> dict[str, tuple[Decoder, str, tuple[str, ...]]]:
    """Build the decoder of each output; returned with its field and the factors that it reads."""
    outputs = {}
    for name, spec in specs.items():
        if not name.isidentifier():
            raise BuildError(
                f"an output's name must be a plain word, not {name!r}: it is part of the names of weights in the checkpoint"
            )
        if not isinstance(spec, OutputSpec):
            raise BuildError(f"output {name}: write rk.output(decoder, reads=...), not {spec!r}")
        field, reads = spec.field or name, tuple(factors) if spec.reads is None else spec.reads
        for read in reads:
            resolve_factor(factors, read, f"output {name}")
        if signature is not None and field not in signature:
            raise BuildError(
                f"output {name}: the data has no field {field!r}, only {', '.join(signature)}; name one: rk.output(..., field=)"
            )
        read_factors = {read: factors[read] for read in reads}
        outputs[name] = _build_decoder(spec.decoder, read_factors, signature, field), field, reads
    if not outputs:
        raise BuildError("decoder={} has no output: give rk.output(...) by name, or omit decoder=")
    return outputs


def _check_all_are_read(
    factors: Mapping[str, Factor], outputs: Iterable[Iterable[str]], objective: Objective
) -> None:
    """Refuse a factor whose code no output, no other factor and no objective reads."""
    used = {factor.condition for factor in factors.values()}.union(
        *outputs, *(member.reads(tuple(factors)) for member in objective.members)
    )
    unread = [name for name in factors if name not in used]
    if unread:
        raise BuildError(
            f"no output reads the code of factor {', '.join(unread)}: name it in reads=, or omit it"
        )


def _check_compatibility(
    objective: Objective,
    factors: Mapping[str, Factor],
    decoder: Decoder | Mapping[str, tuple[Decoder, str, tuple[str, ...]]] | None,
) -> None:
    name = objective.title
    decoders = {}
    if isinstance(decoder, Mapping):
        decoders = {name: part for name, (part, _, _) in decoder.items()}
        single = [each for each in objective.members if "decoder" in each.needs and not each.several_outputs]
        if len(decoders) > 1 and single:
            raise BuildError(
                f"objective {_part_name(single[0])} trains one output, and this model has {', '.join(decoders)}: "
                "use reconstruction, or one decoder"
            )
    elif decoder is not None:
        decoders = {"": decoder}
    if "decoder" in objective.needs and decoder is None:
        raise BuildError(f"objective {name} needs a decoder: give decoder=")
    if decoder is not None and "decoder" not in objective.needs:
        raise BuildError(
            f"objective {name} never uses a decoder: omit decoder=, or add an objective that uses it "
            f'("reconstruction + {_sum_expression(objective)}")'
        )
    if "encoder" in objective.needs and not factors:
        raise BuildError(f"objective {name} needs an encoder: give encoder= or factors=")
    if not factors and decoder is None:
        raise BuildError("there is nothing to build: give encoder=, decoder= or factors=")
    if "keep" in objective.needs:
        for factor in factors.values():
            if "keep" not in factor.encoder.provides:
                raise BuildError(
                    f"objective {name} lets encoders read only some tokens (keep), and {_part_name(factor.encoder)} cannot "
                    "read only some: use vit, gru or transformer, or denoising with a mask corruption"
                )
    causal = bool(decoders) and all("causal" in part.provides for part in decoders.values())
    if "causal" in objective.needs and not causal:
        raise BuildError(
            f"objective {name} needs a causal decoder: gru(causal=True) or transformer(causal=True)"
        )
    if "log_prob" in objective.needs and not any("log_prob" in f.latent.provides for f in factors.values()):
        latents = ", ".join(_part_name(factor.latent) for factor in factors.values())
        needing = next((_part_name(each) for each in objective.members if "log_prob" in each.needs), name)
        raise BuildError(
            f"objective {needing} needs a latent that provides log_prob, and {latents} does not: use text, gaussian, binary or "
            "one-hot, or objective reconstruction"
        )
    if "deviation" in objective.needs and not any("deviation" in f.latent.provides for f in factors.values()):
        latents = ", ".join(_part_name(factor.latent) for factor in factors.values())
        needing = next((_part_name(each) for each in objective.members if "deviation" in each.needs), name)
        raise BuildError(
            f"objective {needing} needs a latent that provides deviation, a Gaussian draw, and {latents} does not: use gaussian"
        )
    trees = [
        part
        for factor in factors.values()
        for part in (factor.latent, factor.encoder)
        if "tree" in part.provides
    ]
    readers = [part for part in decoders.values() if "tree" in part.provides]
    if "tree" in objective.needs and not (trees and readers):
        missing = "a latent" if readers else "a decoder" if trees else "a latent and a decoder"
        raise BuildError(f'objective {name} needs trees: use {missing} that provides "tree"')
    if trees and decoders and not readers:
        warnings.warn(
            f"{_part_name(trees[0])} gives trees, and no decoder reads them: it sees the tokens in post-order only. "
            'Use a decoder that provides "tree"',
            stacklevel=3,
        )
    if "indices" in objective.needs:
        for factor in factors.values():
            if factor.latent.vocab is None:
                raise BuildError(
                    f"objective {name} needs indices, and {_part_name(factor.latent)} is continuous: use a discrete latent"
                )


def _sum_expression(objective: Objective) -> str:
    """Write the objective's members as terms of a sum, without their arguments: ``0.1 * contrastive``."""
    names = [_part_name(member).rpartition("/")[2] for member in objective.members]
    weights = objective.weights if len(names) > 1 else (0.1,)
    terms = zip(weights, names, strict=True)
    return " + ".join(name if weight == 1 else f"{weight:g} * {name}" for weight, name in terms)


def _part_name(part: Part) -> str:
    return part.qualified or type(part).__name__


def _check_weights(model: Model) -> None:
    """Check the names of weights as far as they are known before the first step: a prefix must be a factor's name."""
    for name in model.weights:
        head = name.partition(".")[0]
        if "." in name and head not in model.factors:
            raise BuildError(
                f"weights: no factor named {head!r}; there are: {', '.join(model.factors) or 'none'}"
            )


def _check_tree(factor: Factor, code: Code) -> None:
    """Check that a code has a tree where encoder or latent provides one, and a valid one."""
    sources = [factor.latent] if factor.pool else [factor.latent, factor.encoder]
    source = next((part for part in sources if "tree" in part.provides), None)
    if source is not None and code.parents is None:
        raise BuildError(
            f'factor {factor.name}: {_part_name(source)} provides "tree", and the code has no parents: create it with Code.of'
        )
    if source is None and code.parents is not None:
        raise BuildError(
            f"factor {factor.name}: the code has parents, and neither encoder nor latent declares them: "
            'provides = frozenset({"tree"})'
        )
    if code.parents is not None:
        try:
            check_tree(code.parents, code.mask)
        except PartArgumentError as error:
            raise BuildError(f"factor {factor.name}: {error}") from error


@torch.no_grad()
def _dry_run(model: Model) -> None:
    """Run two blank examples through the model, to find widths and shapes that do not fit."""
    assert model.signature is not None
    model.eval()
    example = model.to_device(model.signature.example(2))
    codes = model.encode(example) if model.factors else None
    for name, code in (codes or {}).items():
        _check_tree(model.factors[name], code)
    for name, output in model.outputs.items():
        # As in training: the decoder may be trained to return something else than the data.
        with model.open_forward_cache():
            scored = model.score(example, codes, output=name)
        expected = scored.target.shape
        actual = scored.decoded.x.shape if scored.decoded.has_point else expected
        if actual != expected:
            raise BuildError(
                f"the decoder returned the shape {tuple(actual)} for {output.field_name!r}, whose target is {tuple(expected)}"
            )
    model.train()
