"""Convert a model to JSON and back: its parts by qualified name and constructor arguments, and their build context."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from reprkit.checkpoints.manifest_check import PART, SHARED, check_manifest, join_entry
from reprkit.data.signature import Signature
from reprkit.errors import CheckpointError, ReprkitError
from reprkit.interfaces import Objective, Part
from reprkit.models.factor import FactorSpec
from reprkit.models.output import OutputSpec
from reprkit.registry.create import restoring_checkpoint
from reprkit.registry.hookspecs import PROJECT
from reprkit.registry.registry import default_registry
from reprkit.runs.filenames import FORMAT


def describe(model: Any) -> dict[str, Any]:
    """Return the manifest of a model: plain JSON from which ``rebuild`` recreates it, without its weights.

    Raises:
        CheckpointError: a part is not offered by any plugin, an argument cannot be represented in JSON, or a part is an argument
            of another whose constructor's annotation does not accept a part, so that ``rebuild`` would reject it.
    """
    signature: Signature | None = model.signature
    plugins = _plugin_versions(model)
    description = _Description(signature)
    manifest = {
        "format": FORMAT,
        "reprkit": plugins["reprkit"],
        "factors": {
            name: {
                "encoder": description.part(
                    factor.encoder, f"{join_entry('factors', name)}.encoder", f"factor {name}"
                ),
                "latent": description.part(
                    factor.latent, f"{join_entry('factors', name)}.latent", f"factor {name}"
                ),
                "input": factor.input,
                "pool": factor.pool,
                **({} if factor.condition is None else {"condition": factor.condition}),
            }
            for name, factor in model.factors.items()
        },
        **_outputs_record(model, description),
        "objective": description.objective(model.objective),
        "weights": {
            name: value if isinstance(value, str) else float(value) for name, value in model.weights.items()
        },
        "plugins": plugins,
        "signature": None if signature is None else signature.to_json(),
        **({"computed": sorted(model.computed_fields)} if model.computed_fields else {}),
        **({"frozen": list(model.frozen)} if model.frozen else {}),
    }
    try:
        check_manifest(manifest)
    except ReprkitError as error:
        raise CheckpointError(
            f"the model cannot be saved, because it could not be loaded again: {error}"
        ) from error
    return manifest


def rebuild(manifest: Mapping[str, Any], data: Signature | None = None) -> Any:
    """Build the model that a manifest describes, with new weights; the whole manifest is checked before a part is imported.

    Args:
        manifest: the content of ``reprkit.json``.
        data: build the same parts for this data instead, which may differ in the sizes of its fields only.

    Raises:
        CheckpointError: see ``reprkit.checkpoints.manifest_check.check_manifest``; or ``data`` is of another kind.
        ReprkitError: parts cannot be created or are incompatible; see ``rk.build``.
    """
    check_manifest(manifest)
    with torch.random.fork_rng(), restoring_checkpoint():  # the weights are replaced afterwards
        return _build(manifest, data)


def _build(manifest: Mapping[str, Any], data: Signature | None) -> Any:
    from reprkit.models.build import build

    record = manifest["signature"]
    signature = None if record is None else Signature.from_json(record)
    if data is not None:
        signature = _resize(signature, data, manifest)
    construction, factors = _Construction(signature), {}
    for name, factor in manifest["factors"].items():
        factors[name] = FactorSpec(
            encoder=construction.part("encoder", factor["encoder"], f"{join_entry('factors', name)}.encoder"),
            latent=construction.part("latent", factor["latent"], f"{join_entry('factors', name)}.latent"),
            input=factor["input"],
            pool=factor["pool"],
            condition=factor.get("condition"),
        )
    decoder: Any = manifest["decoder"]

    def resized(record: Mapping[str, Any], reads: Sequence[str]) -> dict[str, Any]:
        """Return a decoder's record with the number of tokens of the given data."""
        if data is None or signature is None or "tokens" not in record:
            return dict(record)
        tokens = _count_tokens({name: factors[name] for name in reads}, signature)
        others = {key: value for key, value in record.items() if key != "tokens"}
        return others if tokens is None else {**others, "tokens": tokens}

    if decoder is not None:
        decoder = construction.part("decoder", resized(decoder, tuple(factors)), "decoder")
    elif "outputs" in manifest:
        decoder = {
            name: OutputSpec(
                decoder=construction.part(
                    "decoder",
                    resized(record["decoder"], record["reads"]),
                    f"{join_entry('outputs', name)}.decoder",
                ),
                reads=tuple(record["reads"]),
                field=record["field"],
            )
            for name, record in manifest["outputs"].items()
        }
    return build(
        data=signature,
        factors=factors,
        decoder=decoder,
        objective=construction.objective(manifest["objective"]),
        output=manifest["output"],
        weights=manifest["weights"],
        freeze=manifest.get("frozen", ()),
    )


def _resize(saved: Signature | None, data: Signature, manifest: Mapping[str, Any]) -> Signature:
    """Return the signature to use for data of other sizes, with the fields that the model reads.

    Raises:
        CheckpointError: the model has no signature, or a field that it uses is missing or differs in more than its size.
    """
    if saved is None:
        raise CheckpointError(
            "data= cannot replace the sizes of this model's data: it was built without data="
        )
    computed = {name: saved[name] for name in manifest.get("computed", ())}
    data = Signature({**data, **computed})
    used = {factor["input"] for factor in manifest["factors"].values()}
    used |= {manifest["output"]} if manifest["decoder"] else set()
    used |= {output["field"] for output in manifest.get("outputs", {}).values()}
    for name in sorted(used):
        before, after = saved[name], data[name]
        for what in ("kind", "channels", "vocab", "range", "form"):
            if getattr(before, what) != getattr(after, what):
                raise CheckpointError(
                    f"data= may differ from the model's data in size only, and field {name!r} has {what} "
                    f"{getattr(after, what)!r} instead of {getattr(before, what)!r}"
                )
    return data


def _count_tokens(factors: Mapping[str, FactorSpec], signature: Signature) -> int | None:
    """Return the number of code tokens that reach the decoder; None where it varies."""
    counts = []
    for length in (4, 8):
        views = [signature.reading(spec.input).example(1, length) for spec in factors.values()]
        counts.append(
            [
                spec.latent.count(1 if spec.pool else spec.encoder.count(view))
                for spec, view in zip(factors.values(), views, strict=True)
            ]
        )
    return max(counts[0]) if counts[0] == counts[1] and counts[0] else None


# ------------------------------------------------------------------ to JSON


def qualified_name(part: Part, where: str = "") -> str:
    """Return ``distribution/name``, by which the part can be created again.

    Raises:
        CheckpointError: no plugin offers its class.
    """
    name = _find_name(part)
    if name is None:
        cls = f"{type(part).__module__}:{type(part).__qualname__}"
        raise CheckpointError(
            f"{part.kind} {type(part).__name__}{where and f' of {where}'} cannot be saved: no plugin offers its class "
            f"({cls}), so it could not be created again\n"
            f"  register it: with a plugin of your own (docs: how to ship a plugin), or in a recipe with\n"
            "  reprkit.registry.default_registry().register(PLUGIN, name='my-parts'), where PLUGIN has the hook "
            f"reprkit_{part.kind}s that yields Spec('my-{part.kind}', '{cls}')"
        )
    return name


def _find_name(part: Part) -> str | None:
    """Return ``distribution/name`` of a part offered by a plugin; None for others, such as a sum of objectives."""
    return part.qualified or default_registry().qualified_name_of(type(part), part.kind)


def _plugin_versions(model: Any) -> dict[str, str]:
    """Return the version of every distribution with a part in the model, reprkit's first."""
    registry = default_registry()
    versions = {plugin.distribution: plugin.version for plugin in registry.plugins}
    used = {"reprkit"}
    for module in model.modules():
        if isinstance(module, Part):
            used.add((_find_name(module) or "reprkit/").partition("/")[0])
    return {
        name: versions.get(name, "unknown")
        for name in sorted(used, key=lambda each: (each != "reprkit", each))
    }


def _outputs_record(model: Any, description: _Description) -> dict[str, Any]:
    """Return the entries of the decoders: ``decoder`` and ``output`` of one, ``outputs`` of several."""
    if not model.has_named_outputs:
        decoder = model.decoder
        return {
            "decoder": None if decoder is None else description.part(decoder, "decoder"),
            "output": model.output,
        }
    outputs = {
        name: {
            "decoder": description.part(
                output.decoder, f"{join_entry('outputs', name)}.decoder", f"output {name}"
            ),
            "field": output.field_name,
            "reads": list(output.reads),
        }
        for name, output in model.outputs.items()
    }
    return {"decoder": None, "output": "x", "outputs": outputs}


def _present_defaults(part: Part) -> dict[str, Any]:
    """Return the present defaults of the arguments whose default changed."""
    parameters = inspect.signature(type(part)).parameters if part.former_defaults else {}
    return {name: parameters[name].default for name in part.former_defaults}


class _Description:
    """The records of a model's parts; a part that stands in several places is described by ``shared`` in all but the first."""

    def __init__(self, signature: Signature | None) -> None:
        self.signature = signature
        self.described: dict[Part, tuple[str, dict[str, Any]]] = {}  # part -> its position and record

    def objective(self, objective: Objective) -> dict[str, Any]:
        if objective.members == (objective,) or _find_name(objective) is not None:
            return self.part(objective, "objective")
        terms = enumerate(zip(objective.weights, objective.members, strict=True))
        return {
            "sum": [
                [float(weight), self.part(member, f"objective.sum[{index}][1]")]
                for index, (weight, member) in terms
            ]
        }

    def part(self, part: Part, position: str, where: str = "") -> dict[str, Any]:
        """Return the record of the part at a position; error messages say ``where`` it is."""
        if part in self.described:
            first, described = self.described[part]
            return {**described, SHARED: first}
        name = qualified_name(part, where)
        title = f"{part.kind} {name}{where and f' of {where}'}"
        arguments = {
            key: self._to_json(value, title, key, join_entry(f"{position}.arguments", key))
            for key, value in (_present_defaults(part) | dict(part.arguments)).items()
        }
        record: dict[str, Any] = {"id": name, "arguments": arguments}
        if "data" in part.build_context:
            record["data"] = _data_record(part.build_context["data"], self.signature)
        if "tokens" in part.build_context:
            record["tokens"] = int(part.build_context["tokens"])
        self.described[part] = position, record
        return record

    def _to_json(self, value: Any, title: str, key: str, position: str) -> Any:
        """Convert a constructor argument to JSON; error messages call it ``key``."""
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real) and math.isfinite(value):
            return float(value)
        if isinstance(value, Part):
            return {PART: value.kind, **self.part(value, position, f"{title}, argument {key}")}
        if isinstance(value, list | tuple):
            return [
                self._to_json(item, title, f"{key}[{index}]", f"{position}[{index}]")
                for index, item in enumerate(value)
            ]
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value) and PART not in value:
            return {
                name: self._to_json(item, title, f"{key}[{name!r}]", join_entry(position, name))
                for name, item in value.items()
            }
        shown = repr(value)
        raise CheckpointError(
            f"{title} cannot be saved: its argument {key} is a {type(value).__name__}, {shown[:60]}{'...' * (len(shown) > 60)}\n"
            "  a checkpoint holds finite numbers, strings, True, False, None, lists and dicts of these (by string), and parts;\n"
            "  pass the part such arguments and let its constructor create other objects"
        )


def _data_record(data: Any, signature: Signature | None) -> Any:
    """Return the data in a part's build context: the name of the field it reads as ``x``, or a signature of its own."""
    record = getattr(data, "signature", data).to_json()
    for name in signature or ():
        assert signature is not None
        if signature.reading(name).to_json() == record:
            return name
    return record


# ------------------------------------------------------------------ from JSON


class _Construction:
    """The parts of a model, created from their records; a shared part is created once."""

    def __init__(self, signature: Signature | None) -> None:
        self.signature = signature
        self.created: dict[str, Any] = {}  # position -> part

    def objective(self, record: Mapping[str, Any]) -> Any:
        if "sum" not in record:
            return self.part("objective", record, "objective")
        from reprkit.models.weighted_sum import objective_from

        terms = enumerate(record["sum"])
        return objective_from(
            [
                (weight, self.part("objective", term, f"objective.sum[{index}][1]"))
                for index, (weight, term) in terms
            ]
        )

    def part(self, kind: str, record: Mapping[str, Any], position: str) -> Any:
        from reprkit.registry.create import construct

        if SHARED in record:
            self.created[position] = self.created[record[SHARED]]
            return self.created[position]
        cls = default_registry().load(kind, record["id"])
        context: dict[str, Any] = {}
        if "data" in record:
            data = record["data"]
            context["data"] = (
                self.signature.reading(data)
                if isinstance(data, str) and self.signature
                else Signature.from_json(data)
            )
        if "tokens" in record:
            context["tokens"] = record["tokens"]
        arguments = {
            key: self._argument(value, join_entry(f"{position}.arguments", key))
            for key, value in record["arguments"].items()
        }
        arguments = {**getattr(cls, "former_defaults", {}), **arguments}
        part = construct(cls, arguments, context, f"{kind} {record['id'].removeprefix(f'{PROJECT}/')}")
        if isinstance(part, Part):
            part.qualified = record["id"]
        self.created[position] = part
        return part

    def _argument(self, value: Any, position: str) -> Any:
        if isinstance(value, list):
            return [self._argument(item, f"{position}[{index}]") for index, item in enumerate(value)]
        if isinstance(value, Mapping):
            if PART in value:
                return self.part(value[PART], value, position)
            return {key: self._argument(item, join_entry(position, key)) for key, item in value.items()}
        return value
