"""Check a manifest before anything is imported or built.  Does not import torch.

A manifest is untrusted input.  It may only name parts of a model, and a part may only be an argument of another part whose
constructor accepts it: that is read from the annotations in the source files of the installed plugins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from reprkit.errors import BuildError, CheckpointError, PartArgumentError, nearest
from reprkit.models.loss_weights import parse_weight
from reprkit.registry.annotations import INTERFACES, accepts_part
from reprkit.registry.registry import Registry, default_registry
from reprkit.registry.sources import BUILD_CONTEXT, ClassSource, read_class

PART = "$part"  # key that marks an argument as a part
SHARED = "shared"  # key of a part that is one with an earlier part of the manifest, whose position it names
_KEYS = {
    "format", "reprkit", "factors", "decoder", "objective", "output", "weights", "plugins", "signature",
}  # fmt: skip
_OUTPUTS = "outputs"  # entry of a model with several outputs; the entry "decoder" is then null
_OPTIONAL_KEYS = {"frozen", "computed", _OUTPUTS}
_OUTPUT_KEYS = {"decoder", "field", "reads"}
_FACTOR_KEYS = {"encoder", "latent", "input", "pool", "condition"}
_PART_KEYS = {"id", "arguments", "data", "tokens", SHARED}
_FIELD_KEYS = {"kind", "shape", "range", "vocab", "form", "columns", "counts", "classes"}
_COLUMN_KEYS = {"name", "kind", "mean", "std", "classes", "unit"}
_ID = re.compile(r"[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9-]*")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[A-Za-z0-9.+!_-]{0,200}")
_DEPTH = 32  # maximum nesting of lists, dicts and parts inside an argument


@dataclass(frozen=True)
class NamedPart:
    """A part that a manifest names.

    Attributes:
        where: its position, such as ``factors.code.latent.arguments.x``.
        kind: "encoder", "latent", ...
        id: ``distribution/name``.
        arguments: its arguments as JSON.
        nested: the parts among them: (argument, path inside it as in ``annotations.accepts_part``, the part).
    """

    where: str
    kind: str
    id: str
    arguments: Mapping[str, Any]
    nested: tuple[tuple[str, tuple[str, ...], NamedPart], ...]


def check_manifest(manifest: Any, registry: Registry | None = None) -> None:
    """Reject a manifest from which no model may be built; nothing is imported.

    Raises:
        CheckpointError: an entry is not valid in a manifest, or a part is unknown or of a kind not accepted at its position.
        PartArgumentError: a part has no such argument.
    """
    for part in named_parts(manifest):
        check_arguments(part, registry or default_registry())


def walk_parts(parts: Iterable[NamedPart]) -> Iterator[NamedPart]:
    """Iterate over parts and, recursively, the parts among their arguments."""
    for part in parts:
        yield part
        yield from walk_parts(inner for _, _, inner in part.nested)


def named_parts(manifest: Any) -> list[NamedPart]:
    """Check the structure of a manifest and return its top-level parts; does not use a registry.

    Raises:
        CheckpointError: an entry is unknown, missing or of the wrong type, or a part is not a part of a model.
    """
    record = _check_record(manifest, "the manifest", known=_KEYS | _OPTIONAL_KEYS, needed=_KEYS)
    frozen = record.get("frozen", [])
    _require(
        isinstance(frozen, list) and all(isinstance(name, str) for name in frozen),
        "frozen",
        "a list of names",
    )
    computed, named = record.get("computed", []), record["signature"]
    _require(
        isinstance(computed, list)
        and all(isinstance(name, str) and isinstance(named, dict) and name in named for name in computed),
        "computed",
        "a list of fields of the signature",
    )
    _require(type(record["format"]) is int, "format", "a whole number")
    _require(
        isinstance(record["reprkit"], str) and _VERSION.fullmatch(record["reprkit"]), "reprkit", "a version"
    )
    _check_plugins(record["plugins"])
    fields = _check_signature(record["signature"], "signature") if record["signature"] is not None else None
    known = _Known(fields)
    _require(isinstance(record["output"], str), "output", "the name of a field")
    for name, value in _check_mapping(record["weights"], "weights").items():
        try:
            parse_weight(name, value)
        except BuildError:
            _require(False, join_entry("weights", name), "a finite number or a schedule of weights")
    parts = []
    for name, value in _check_mapping(record["factors"], "factors").items():
        where = join_entry("factors", name)
        _require(name.isidentifier(), where, "named by a plain word")
        factor = _check_record(value, where, known=_FACTOR_KEYS, needed=_FACTOR_KEYS - {"condition"})
        _require(isinstance(factor["input"], str), f"{where}.input", "the name of a field")
        _require(isinstance(factor["pool"], bool), f"{where}.pool", "true or false")
        condition = factor.get("condition")
        _require(
            condition is None or isinstance(condition, str), f"{where}.condition", "the name of a factor"
        )
        parts += [_check_part(factor[kind], f"{where}.{kind}", kind, known) for kind in ("encoder", "latent")]
    if record["decoder"] is not None:
        parts.append(_check_part(record["decoder"], "decoder", "decoder", known))
    if _OUTPUTS in record:
        _require(record["decoder"] is None, "decoder", "null beside outputs")
        parts += _check_outputs(record[_OUTPUTS], known)
    return [*parts, *_check_objectives(record["objective"], "objective", known)]


def check_arguments(part: NamedPart, registry: Registry) -> None:
    """Reject arguments that a part does not have, and nested parts that its constructor does not accept.

    Raises:
        CheckpointError: no plugin offers the part, or it does not accept a part in that argument.
        PartArgumentError: the part has no such argument.
    """
    found_part = next(
        (candidate for candidate in registry.specs(part.kind) if candidate.qualified == part.id), None
    )
    if found_part is None:
        raise CheckpointError(
            f"{part.where}: no {part.kind} {part.id} is installed; see: reprkit list {part.kind}"
        )
    source = read_class(found_part.spec.build)
    annotations = {argument.name: argument.annotation for argument in source.arguments} if source else {}
    known = [name for name in annotations if name not in BUILD_CONTEXT]
    former = dict(source.renamed) if source else {}
    for argument in part.arguments:
        name = former.get(argument, argument)
        if name in BUILD_CONTEXT or (source is not None and source.complete and name not in known):
            raise PartArgumentError(
                f"{join_entry(f'{part.where}.arguments', argument)}: {part.kind} {part.id} has no argument {_short_repr(argument)}."
                f"{nearest(argument, known)}\n  its arguments: {', '.join(known) or 'none'}"
            )
    for argument, path, inner in part.nested:
        name = former.get(argument, argument)
        if not accepts_part(annotations.get(name), inner.kind, path):
            _refuse_nested(part, name, inner, annotations.get(name), source)
        check_arguments(inner, registry)


def _refuse_nested(
    part: NamedPart, name: str, inner: NamedPart, annotation: str | None, source: ClassSource | None
) -> NoReturn:
    if source is None:
        reason = "and the source of its class cannot be read"
    elif annotation is None:
        reason = "and that parameter has no annotation"
    else:
        reason = f"and that parameter is annotated {annotation!r}"
    interface = INTERFACES[inner.kind]
    raise CheckpointError(
        f"{inner.where}: {part.kind} {part.id} is not known to accept {inner.kind} {inner.id} as its {name}: only a parameter "
        f"whose annotation names {interface} accepts one, {reason}\n"
        f"  if it should, its author must annotate it in the class's constructor: {name}: str | {interface}"
    )


# ------------------------------------------------------------------ structure


def _check_outputs(value: Any, known_parts: _Known) -> Iterator[NamedPart]:
    for name, entry in _check_mapping(value, _OUTPUTS).items():
        where = join_entry(_OUTPUTS, name)
        _require(name.isidentifier(), where, "named by a plain word")
        output = _check_record(entry, where, known=_OUTPUT_KEYS, needed=_OUTPUT_KEYS)
        _require(isinstance(output["field"], str), f"{where}.field", "the name of a field")
        reads = output["reads"]
        named = isinstance(reads, list) and all(isinstance(factor, str) for factor in reads)
        _require(named, f"{where}.reads", "a list of names of factors")
        yield _check_part(output["decoder"], f"{where}.decoder", "decoder", known_parts)


@dataclass(frozen=True)
class _Known:
    """What is known of a manifest while its parts are checked one after the other.

    Attributes:
        fields: the names of the signature's fields; None without a signature.
        parts: position -> kind and record of the parts before, in the order in which they are built: inner ones first.
    """

    fields: set[str] | None
    parts: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)

    def add(self, where: str, kind: str, record: Mapping[str, Any]) -> None:
        """Check the entry ``shared`` of a part, then add the part."""
        own = {key: value for key, value in record.items() if key not in (SHARED, PART)}
        if SHARED in record:
            text = record[SHARED]
            _require(isinstance(text, str) and text in self.parts, f"{where}.{SHARED}", "an earlier part")
            same = self.parts[text] == (kind, own)
            _require(same, where, f"equal to {text}, with which it is shared")
        self.parts[where] = (kind, own)


def _check_objectives(value: Any, where: str, known_parts: _Known) -> Iterator[NamedPart]:
    if isinstance(value, Mapping) and "sum" in value:
        terms = _check_record(value, where, known={"sum"}, needed={"sum"})["sum"]
        _require(isinstance(terms, list) and len(terms) > 0, f"{where}.sum", "a list of [weight, objective]")
        for index, term in enumerate(terms):
            inner = f"{where}.sum[{index}]"
            _require(isinstance(term, list) and len(term) == 2, inner, "[weight, objective]")
            _require(_is_number(term[0]) and term[0] >= 0, f"{inner}[0]", "a finite number from 0")
            yield _check_part(term[1], f"{inner}[1]", "objective", known_parts)
    else:
        yield _check_part(value, where, "objective", known_parts)


def _check_part(value: Any, where: str, kind: str, known_parts: _Known, depth: int = 0) -> NamedPart:
    """Check a part's record, and those of all parts among its arguments."""
    known = _PART_KEYS | {PART} if depth else _PART_KEYS
    record = _check_record(value, where, known=known, needed={"id", "arguments"})
    text = record["id"]
    _require(isinstance(text, str) and _ID.fullmatch(text), f"{where}.id", "distribution/name of a part")
    arguments = _check_mapping(record["arguments"], f"{where}.arguments")
    if "data" in record:
        data = record["data"]
        if isinstance(data, str):
            fields = known_parts.fields
            _require(fields is not None and data in fields, f"{where}.data", "a field of the signature")
        else:
            _check_signature(data, f"{where}.data")
    if "tokens" in record:
        _require(type(record["tokens"]) is int, f"{where}.tokens", "a whole number")
    # The parts inside a shared one are not built again: nothing may be shared with them.
    inside = replace(known_parts, parts=dict(known_parts.parts)) if SHARED in record else known_parts
    nested = [
        (name, path, inner)
        for name, argument in arguments.items()
        for path, inner in _iterate_nested(argument, join_entry(f"{where}.arguments", name), inside, depth)
    ]
    known_parts.add(where, kind, record)
    return NamedPart(where, kind, text, arguments, tuple(nested))


def _iterate_nested(
    value: Any, where: str, known_parts: _Known, depth: int
) -> Iterator[tuple[tuple[str, ...], NamedPart]]:
    """Iterate over the parts in an argument, each with the path to it."""
    _require(depth < _DEPTH, where, f"nested at most {_DEPTH} deep")
    if isinstance(value, list):
        for index, item in enumerate(value):
            for path, inner in _iterate_nested(item, f"{where}[{index}]", known_parts, depth + 1):
                yield ("list", *path), inner
    elif isinstance(value, Mapping) and PART in value:
        kind = value[PART]
        if not isinstance(kind, str) or kind not in INTERFACES:
            raise CheckpointError(
                f"{where}: {_short_repr(kind)} is no part of a model, and a manifest may only name these: {', '.join(INTERFACES)}"
            )
        yield (), _check_part(value, where, kind, known_parts, depth + 1)
    elif isinstance(value, Mapping):
        for name, item in _check_mapping(value, where).items():
            for path, inner in _iterate_nested(item, join_entry(where, name), known_parts, depth + 1):
                yield ("dict", *path), inner
    else:
        plain = value is None or isinstance(value, bool | str | int) or _is_number(value)
        _require(plain, where, "a finite number, a string, true, false or null")


def _check_signature(value: Any, where: str) -> set[str]:
    """Check a signature's structure and return its field names; ``Signature`` checks the values."""
    for name, entry in _check_mapping(value, where).items():
        entry_path = join_entry(where, name)
        stated = _check_record(entry, entry_path, known=_FIELD_KEYS, needed={"kind", "shape"})
        _require(isinstance(stated["kind"], str), f"{entry_path}.kind", "a kind of field")
        shape, span, vocab, form = (stated.get(key) for key in ("shape", "range", "vocab", "form"))
        sizes = isinstance(shape, list | tuple) and all(size is None or type(size) is int for size in shape)
        _require(sizes, f"{entry_path}.shape", "a list of sizes")
        pair = isinstance(span, list | tuple) and len(span) == 2 and all(map(_is_number, span))
        _require(span is None or pair, f"{entry_path}.range", "two finite numbers")
        _require(vocab is None or type(vocab) is int, f"{entry_path}.vocab", "a whole number")
        _require(form is None or isinstance(form, str), f"{entry_path}.form", "a text")
        counts = stated.get("counts", [])
        numbers = isinstance(counts, list) and all(type(count) is int for count in counts)
        _require(numbers, f"{entry_path}.counts", "a list of whole numbers")
        classes = stated.get("classes", [])
        texts = isinstance(classes, list) and all(isinstance(each, str) for each in classes)
        _require(texts, f"{entry_path}.classes", "a list of texts")
        columns = stated.get("columns", [])
        _require(isinstance(columns, list), f"{entry_path}.columns", "a list")
        for index, column in enumerate(columns):
            _check_column(column, f"{entry_path}.columns[{index}]")
    return set(value)


def _check_column(value: Any, where: str) -> None:
    column = _check_record(value, where, known=_COLUMN_KEYS, needed={"name", "kind"})
    for key in ("name", "kind", "unit"):
        _require(isinstance(column.get(key, ""), str), f"{where}.{key}", "a text")
    for key in ("mean", "std"):
        _require(_is_number(column.get(key, 1.0)), f"{where}.{key}", "a finite number")
    classes = column.get("classes", [])
    texts = isinstance(classes, list) and all(isinstance(each, str) for each in classes)
    _require(texts, f"{where}.classes", "a list of texts")


def _check_plugins(value: Any) -> None:
    for name, version in _check_mapping(value, "plugins").items():
        where = join_entry("plugins", name)
        _require(_DISTRIBUTION.fullmatch(name), where, "named as a distribution is")
        _require(isinstance(version, str) and _VERSION.fullmatch(version), where, "a version")


def _check_record(value: Any, where: str, *, known: set[str], needed: set[str]) -> Mapping[str, Any]:
    record = _check_mapping(value, where)
    for key in record:
        if key not in known:
            raise CheckpointError(
                f"{where} has an entry {_short_repr(key)} that this reprkit does not know.{nearest(key, known)}"
            )
    missing = sorted(needed - record.keys())
    if missing:
        raise CheckpointError(f"{where} is damaged: it has no entry {', '.join(map(repr, missing))}")
    return record


def _check_mapping(value: Any, where: str) -> Mapping[str, Any]:
    _require(isinstance(value, Mapping) and all(isinstance(name, str) for name in value), where, "an object")
    return value


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number that fits into a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _require(holds: object, where: str, what: str) -> None:
    if not holds:
        raise CheckpointError(f"{where} is damaged: it must be {what}")


def join_entry(where: str, name: str) -> str:
    """Return the position of an entry of a mapping in the manifest: ``factors.code``."""
    return f"{where}.{name}" if name.isidentifier() and name.isascii() else f"{where}[{_short_repr(name)}]"


def _short_repr(value: Any) -> str:
    """Format a value of the manifest for a message: escaped, and at most one line long."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return ascii(value if len(value) <= 60 else f"{value[:57]}...")
