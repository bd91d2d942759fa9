"""Whether a manifest may be made into a model; decided before anything is imported or built.  Torch-free.

A manifest comes from whoever wrote the folder.  It may name parts of a model only, each where the constructor of the part
around it takes one: that is read from annotations in source files, which belong to what is installed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from reprkit.errors import CheckpointError, PartArgumentError, nearest
from reprkit.registry.annotations import INTERFACES, accepts_part
from reprkit.registry.registry import Registry, default_registry
from reprkit.registry.sources import BUILD_CONTEXT, ClassSource, read_class

PART = "$part"  # marks an argument that is itself a part
_KEYS = {
    "format", "reprkit", "factors", "decoder", "objective", "output", "weights", "plugins", "signature",
}  # fmt: skip
_FACTOR_KEYS = {"encoder", "latent", "input", "pool", "condition"}
_PART_KEYS = {"id", "arguments", "data", "tokens"}
_FIELD_KEYS = {"kind", "shape", "range", "vocab", "form"}
_ID = re.compile(r"[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9-]*")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[A-Za-z0-9.+!_-]{0,200}")
_DEPTH = 32  # of lists, dicts and parts inside an argument


@dataclass(frozen=True)
class NamedPart:
    """A part that a manifest names.

    Attributes:
        where: its place, such as ``factors.code.latent.arguments.x``.
        kind: "encoder", "latent", ...
        id: ``distribution/name``.
        arguments: as JSON.
        nested: the parts among them: (argument, steps inside of it as in ``annotations.accepts_part``, the part).
    """

    where: str
    kind: str
    id: str
    arguments: Mapping[str, Any]
    nested: tuple[tuple[str, tuple[str, ...], NamedPart], ...]


def check_manifest(manifest: Any, registry: Registry | None = None) -> None:
    """Refuse a manifest that no model may be built from; nothing is imported.

    Raises:
        CheckpointError: a record that is not what a manifest holds, a part that is unknown or of a kind that its place does
            not take.
        PartArgumentError: an argument that a part does not have.
    """
    for each in named_parts(manifest):
        check_arguments(each, registry or default_registry())


def walk_parts(parts: Iterable[NamedPart]) -> Iterator[NamedPart]:
    """The parts, and those in their arguments."""
    for each in parts:
        yield each
        yield from walk_parts(inner for _, _, inner in each.nested)


def named_parts(manifest: Any) -> list[NamedPart]:
    """The parts of a manifest outside of arguments, after a check of its shape and kinds; asks no registry.

    Raises:
        CheckpointError: an entry that is unknown, missing or of another type, or a part that is no part of a model.
    """
    record = _record(manifest, "the manifest", known=_KEYS, needed=_KEYS)
    _is(type(record["format"]) is int, "format", "a whole number")
    _is(isinstance(record["reprkit"], str) and _VERSION.fullmatch(record["reprkit"]), "reprkit", "a version")
    _check_plugins(record["plugins"])
    fields = _signature(record["signature"], "signature") if record["signature"] is not None else None
    _is(isinstance(record["output"], str), "output", "the name of a field")
    for name, value in _mapping(record["weights"], "weights").items():
        _is(_number(value), _at("weights", name), "a finite number")
    parts = []
    for name, each in _mapping(record["factors"], "factors").items():
        where = _at("factors", name)
        _is(name.isidentifier(), where, "named by a plain word")
        factor = _record(each, where, known=_FACTOR_KEYS, needed=_FACTOR_KEYS - {"condition"})
        _is(isinstance(factor["input"], str), f"{where}.input", "the name of a field")
        _is(isinstance(factor["pool"], bool), f"{where}.pool", "true or false")
        condition = factor.get("condition")
        _is(condition is None or isinstance(condition, str), f"{where}.condition", "the name of a factor")
        parts += [_part(factor[kind], f"{where}.{kind}", kind, fields) for kind in ("encoder", "latent")]
    if record["decoder"] is not None:
        parts.append(_part(record["decoder"], "decoder", "decoder", fields))
    return [*parts, *_objectives(record["objective"], "objective", fields)]


def check_arguments(part: NamedPart, registry: Registry) -> None:
    """Refuse arguments that a part does not have, and parts among them that its constructor does not take.

    Raises:
        CheckpointError: nobody offers the part, or it takes no part there.
        PartArgumentError: it has no such argument.
    """
    found = next((each for each in registry.specs(part.kind) if each.qualified == part.id), None)
    if found is None:
        raise CheckpointError(
            f"{part.where}: no {part.kind} {part.id} is installed; see: reprkit list {part.kind}"
        )
    source = read_class(found.spec.build)
    annotations = {each.name: each.annotation for each in source.arguments} if source else {}
    known = [name for name in annotations if name not in BUILD_CONTEXT]
    former = dict(source.renamed) if source else {}
    for given in part.arguments:
        name = former.get(given, given)
        if name in BUILD_CONTEXT or (source is not None and source.complete and name not in known):
            raise PartArgumentError(
                f"{_at(f'{part.where}.arguments', given)}: {part.kind} {part.id} has no argument {_short(given)}."
                f"{nearest(given, known)}\n  its arguments: {', '.join(known) or 'none'}"
            )
    for given, path, inner in part.nested:
        name = former.get(given, given)
        if not accepts_part(annotations.get(name), inner.kind, path):
            _refuse_nested(part, name, inner, annotations.get(name), source)
        check_arguments(inner, registry)


def _refuse_nested(
    part: NamedPart, name: str, inner: NamedPart, annotation: str | None, source: ClassSource | None
) -> NoReturn:
    if source is None:
        found = "and the source of its class cannot be read"
    elif annotation is None:
        found = "and that parameter has no annotation"
    else:
        found = f"and that parameter is annotated {annotation!r}"
    interface = INTERFACES[inner.kind]
    raise CheckpointError(
        f"{inner.where}: {part.kind} {part.id} is not known to take {inner.kind} {inner.id} as its {name}: only a parameter "
        f"whose annotation names {interface} takes one, {found}\n"
        f"  if it is meant to, its author annotates it in the class's constructor: {name}: str | {interface}"
    )


# ------------------------------------------------------------------ shape


def _objectives(value: Any, where: str, fields: set[str] | None) -> Iterator[NamedPart]:
    if isinstance(value, Mapping) and "sum" in value:
        terms = _record(value, where, known={"sum"}, needed={"sum"})["sum"]
        _is(isinstance(terms, list) and len(terms) > 0, f"{where}.sum", "a list of [weight, objective]")
        for place, each in enumerate(terms):
            inner = f"{where}.sum[{place}]"
            _is(isinstance(each, list) and len(each) == 2, inner, "[weight, objective]")
            _is(_number(each[0]) and each[0] >= 0, f"{inner}[0]", "a finite number from 0")
            yield _part(each[1], f"{inner}[1]", "objective", fields)
    else:
        yield _part(value, where, "objective", fields)


def _part(value: Any, where: str, kind: str, fields: set[str] | None, depth: int = 0) -> NamedPart:
    """A part's record, and of every part among its arguments."""
    known = _PART_KEYS | {PART} if depth else _PART_KEYS
    record = _record(value, where, known=known, needed={"id", "arguments"})
    text = record["id"]
    _is(isinstance(text, str) and _ID.fullmatch(text), f"{where}.id", "distribution/name of a part")
    arguments = _mapping(record["arguments"], f"{where}.arguments")
    if "data" in record:
        told = record["data"]
        if isinstance(told, str):
            _is(fields is not None and told in fields, f"{where}.data", "a field of the signature")
        else:
            _signature(told, f"{where}.data")
    if "tokens" in record:
        _is(type(record["tokens"]) is int, f"{where}.tokens", "a whole number")
    nested = [
        (name, path, inner)
        for name, each in arguments.items()
        for path, inner in _nested(each, _at(f"{where}.arguments", name), fields, depth)
    ]
    return NamedPart(where, kind, text, arguments, tuple(nested))


def _nested(
    value: Any, where: str, fields: set[str] | None, depth: int
) -> Iterator[tuple[tuple[str, ...], NamedPart]]:
    """The parts in an argument, each with the steps that lead to it."""
    _is(depth < _DEPTH, where, f"nested at most {_DEPTH} deep")
    if isinstance(value, list):
        for place, each in enumerate(value):
            for path, inner in _nested(each, f"{where}[{place}]", fields, depth + 1):
                yield ("list", *path), inner
    elif isinstance(value, Mapping) and PART in value:
        kind = value[PART]
        if not isinstance(kind, str) or kind not in INTERFACES:
            raise CheckpointError(
                f"{where}: {_short(kind)} is no part of a model, and a manifest names only these: {', '.join(INTERFACES)}"
            )
        yield (), _part(value, where, kind, fields, depth + 1)
    elif isinstance(value, Mapping):
        for name, each in _mapping(value, where).items():
            for path, inner in _nested(each, _at(where, name), fields, depth + 1):
                yield ("dict", *path), inner
    else:
        plain = value is None or isinstance(value, bool | str | int) or _number(value)
        _is(plain, where, "a finite number, a string, true, false or null")


def _signature(value: Any, where: str) -> set[str]:
    """The names of a signature's fields; what the values mean is for ``Signature`` to judge."""
    for name, each in _mapping(value, where).items():
        inside = _at(where, name)
        field = _record(each, inside, known=_FIELD_KEYS, needed={"kind", "shape"})
        _is(isinstance(field["kind"], str), f"{inside}.kind", "a kind of field")
        shape, span, vocab, form = (field.get(key) for key in ("shape", "range", "vocab", "form"))
        sizes = isinstance(shape, list | tuple) and all(size is None or type(size) is int for size in shape)
        _is(sizes, f"{inside}.shape", "a list of sizes")
        pair = isinstance(span, list | tuple) and len(span) == 2 and all(map(_number, span))
        _is(span is None or pair, f"{inside}.range", "two finite numbers")
        _is(vocab is None or type(vocab) is int, f"{inside}.vocab", "a whole number")
        _is(form is None or isinstance(form, str), f"{inside}.form", "a text")
    return set(value)


def _check_plugins(value: Any) -> None:
    for name, version in _mapping(value, "plugins").items():
        where = _at("plugins", name)
        _is(_DISTRIBUTION.fullmatch(name), where, "named as a distribution is")
        _is(isinstance(version, str) and _VERSION.fullmatch(version), where, "a version")


def _record(value: Any, where: str, *, known: set[str], needed: set[str]) -> Mapping[str, Any]:
    record = _mapping(value, where)
    for key in record:
        if key not in known:
            raise CheckpointError(
                f"{where} has an entry {_short(key)} that this reprkit does not know.{nearest(key, known)}"
            )
    missing = sorted(needed - record.keys())
    if missing:
        raise CheckpointError(f"{where} is damaged: it has no entry {', '.join(map(repr, missing))}")
    return record


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    _is(isinstance(value, Mapping) and all(isinstance(name, str) for name in value), where, "an object")
    return value


def _number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is(holds: object, where: str, what: str) -> None:
    if not holds:
        raise CheckpointError(f"{where} is damaged: it must be {what}")


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if name.isidentifier() and name.isascii() else f"{where}[{_short(name)}]"


def _short(value: Any) -> str:
    """A value of the manifest for a message: escaped, and not longer than a line."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return ascii(value if len(value) <= 60 else f"{value[:57]}...")
