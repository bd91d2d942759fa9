"""A model as JSON and back: its parts by qualified name and constructor arguments, and what they were told of the data."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import torch

from reprkit.checkpoints.manifest_check import PART, check_manifest
from reprkit.data.signature import Signature
from reprkit.errors import CheckpointError, ReprkitError
from reprkit.interfaces import Objective, Part
from reprkit.models.factor import FactorSpec
from reprkit.registry.create import restoring_checkpoint
from reprkit.registry.hookspecs import PROJECT
from reprkit.registry.registry import default_registry
from reprkit.runs.filenames import FORMAT


def describe(model: Any) -> dict[str, Any]:
    """The manifest of a model: plain JSON from which ``rebuild`` makes it again, without its weights.

    Raises:
        CheckpointError: a part that no plugin offers, an argument that JSON cannot hold, or a part inside of another whose
            constructor does not say by its annotation that it takes one, so that ``rebuild`` would refuse it.
    """
    signature: Signature | None = model.signature
    plugins = _plugins(model)
    manifest = {
        "format": FORMAT,
        "reprkit": plugins["reprkit"],
        "factors": {
            name: {
                "encoder": _part(path.encoder, f"factor {name}", signature),
                "latent": _part(path.latent, f"factor {name}", signature),
                "input": path.input,
                "pool": path.pool,
                **({} if path.condition is None else {"condition": path.condition}),
            }
            for name, path in model.factors.items()
        },
        "decoder": None if model.decoder is None else _part(model.decoder, "", signature),
        "objective": _objective(model.objective, signature),
        "output": model.output,
        "weights": {name: float(value) for name, value in model.weights.items()},
        "plugins": plugins,
        "signature": None if signature is None else signature.to_json(),
    }
    try:
        check_manifest(manifest)
    except ReprkitError as error:
        raise CheckpointError(f"the model cannot be saved, since it could not be loaded: {error}") from error
    return manifest


def rebuild(manifest: Mapping[str, Any]) -> Any:
    """The model that a manifest describes, with fresh weights; the whole manifest is checked before a part is imported.

    Raises:
        CheckpointError: see ``reprkit.checkpoints.manifest_check.check_manifest``.
        ReprkitError: parts that cannot be made or do not fit; see ``rk.build``.
    """
    check_manifest(manifest)
    with torch.random.fork_rng(), restoring_checkpoint():  # the weights are replaced anyway
        return _rebuilt(manifest)


def _rebuilt(manifest: Mapping[str, Any]) -> Any:
    from reprkit.models.build import build

    record = manifest["signature"]
    signature = None if record is None else Signature.from_json(record)
    factors = {}
    for name, each in manifest["factors"].items():
        factors[name] = FactorSpec(
            encoder=_made("encoder", each["encoder"], signature),
            latent=_made("latent", each["latent"], signature),
            input=each["input"],
            pool=each["pool"],
            condition=each.get("condition"),
        )
    decoder = manifest["decoder"]
    return build(
        data=signature,
        factors=factors,
        decoder=None if decoder is None else _made("decoder", decoder, signature),
        objective=_made("objective", manifest["objective"], signature),
        output=manifest["output"],
        weights=manifest["weights"],
    )


# ------------------------------------------------------------------ to JSON


def qualified_name(part: Part, where: str = "") -> str:
    """``distribution/name`` under which the part can be made again.

    Raises:
        CheckpointError: no plugin offers its class.
    """
    name = _offered(part)
    if name is None:
        cls = f"{type(part).__module__}:{type(part).__qualname__}"
        raise CheckpointError(
            f"{part.kind} {type(part).__name__}{where and f' of {where}'} cannot be saved: no plugin offers its class "
            f"({cls}), so nobody could make it again\n"
            f"  offer it: a plugin of your own (docs: how to ship a plugin), or for a recipe\n"
            "  reprkit.registry.registry.default_registry().register(PLUGIN, name='my-parts'), where PLUGIN has the hook "
            f"reprkit_{part.kind}s that yields Spec('my-{part.kind}', '{cls}')"
        )
    return name


def _offered(part: Part) -> str | None:
    """``distribution/name`` of a part that a plugin offers; None of others, such as a sum of objectives."""
    return part.qualified or default_registry().qualified_name_of(type(part), part.kind)


def _plugins(model: Any) -> dict[str, str]:
    """The version of every distribution whose part is in the model, reprkit's first."""
    registry = default_registry()
    versions = {row.distribution: row.version for row in registry.plugins}
    used = {"reprkit"}
    for module in model.modules():
        if isinstance(module, Part):
            used.add((_offered(module) or "reprkit/").partition("/")[0])
    return {
        name: versions.get(name, "unknown")
        for name in sorted(used, key=lambda each: (each != "reprkit", each))
    }


def _objective(objective: Objective, signature: Signature | None) -> dict[str, Any]:
    if objective.members == (objective,) or _offered(objective) is not None:
        return _part(objective, "", signature)
    terms = zip(objective.weights, objective.members, strict=True)
    return {"sum": [[float(weight), _part(each, "", signature)] for weight, each in terms]}


def _part(part: Part, where: str, signature: Signature | None) -> dict[str, Any]:
    name = qualified_name(part, where)
    title = f"{part.kind} {name}{where and f' of {where}'}"
    arguments = {key: _json(value, title, key, signature) for key, value in part.arguments.items()}
    record: dict[str, Any] = {"id": name, "arguments": arguments}
    if "data" in part.facts:
        record["data"] = _data(part.facts["data"], signature)
    if "tokens" in part.facts:
        record["tokens"] = int(part.facts["tokens"])
    return record


def _data(seen: Any, signature: Signature | None) -> Any:
    """What a part was told of the data: the name of the field that it reads as ``x``, or a signature of its own."""
    told = getattr(seen, "signature", seen).to_json()
    for name in signature or ():
        assert signature is not None
        if signature.reading(name).to_json() == told:
            return name
    return told


def _json(value: Any, title: str, key: str, signature: Signature | None) -> Any:
    """A constructor argument as JSON; ``key`` names it in errors."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    if isinstance(value, Part):
        return {PART: value.kind, **_part(value, f"{title}, argument {key}", signature)}
    if isinstance(value, list | tuple):
        return [_json(each, title, f"{key}[{place}]", signature) for place, each in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value) and PART not in value:
        return {name: _json(each, title, f"{key}[{name!r}]", signature) for name, each in value.items()}
    shown = repr(value)
    raise CheckpointError(
        f"{title} cannot be saved: its argument {key} is a {type(value).__name__}, {shown[:60]}{'...' * (len(shown) > 60)}\n"
        "  a checkpoint holds finite numbers, strings, True, False, None, lists and dicts of these (by string), and parts;\n"
        "  give the part such arguments and let its constructor make the rest"
    )


# ------------------------------------------------------------------ from JSON


def _made(kind: str, record: Mapping[str, Any], signature: Signature | None) -> Any:
    from reprkit.registry.create import construct

    if "sum" in record:
        from reprkit.models.weighted_sum import objective_from

        return objective_from([(weight, _made(kind, each, signature)) for weight, each in record["sum"]])
    registry = default_registry()
    cls = registry.load(kind, record["id"])
    facts: dict[str, Any] = {}
    if "data" in record:
        told = record["data"]
        facts["data"] = (
            signature.reading(told) if isinstance(told, str) and signature else Signature.from_json(told)
        )
    if "tokens" in record:
        facts["tokens"] = record["tokens"]
    given = {key: _argument(value, signature) for key, value in record["arguments"].items()}
    made = construct(cls, given, facts, f"{kind} {record['id'].removeprefix(f'{PROJECT}/')}")
    if isinstance(made, Part):
        made.qualified = record["id"]
    return made


def _argument(value: Any, signature: Signature | None) -> Any:
    if isinstance(value, list):
        return [_argument(each, signature) for each in value]
    if isinstance(value, Mapping):
        if PART in value:
            return _made(value[PART], value, signature)
        return {key: _argument(each, signature) for key, each in value.items()}
    return value
