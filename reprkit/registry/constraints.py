"""Constraints of constructor arguments, declared in annotations and checked however a part is created.

``codes: Annotated[int, Ge(2)] = 512`` (constraints of the library ``annotated-types``), ``pool: Literal["mean", "flatten"]``, and
types themselves.  References, manifests and direct calls are all checked here, so a part checks only relations between arguments,
with ``require``.  Imports neither torch nor numpy.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import itertools
import math
import numbers
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen, MultipleOf, Predicate

from reprkit.errors import PartArgumentError, nearest

# Upper bounds reject mistakenly large sizes before memory is allocated.  These bound what has no bound of its own: counts fit
# into 32 bits, and numbers and their products into float32.  None is shown where arguments are described.
LARGEST_COUNT = 2**31 - 1
LARGEST_NUMBER = 1e18
LARGEST_SEED = 2**63 - 1
Count = Annotated[int, Ge(1), Le(LARGEST_COUNT)]
CountOrZero = Annotated[int, Ge(0), Le(LARGEST_COUNT)]
Width = Annotated[int, Ge(1), Le(2**20)]
Depth = Annotated[int, Ge(1), Le(1000)]
DepthOrZero = Annotated[int, Ge(0), Le(1000)]
Kernel = Annotated[int, Ge(1), Le(1023)]
Seed = Annotated[int, Ge(0), Le(LARGEST_SEED)]
Real = Annotated[float, Ge(-LARGEST_NUMBER), Le(LARGEST_NUMBER)]
Positive = Annotated[float, Gt(0), Le(LARGEST_NUMBER)]
NonNegative = Annotated[float, Ge(0), Le(LARGEST_NUMBER)]
Share = Annotated[float, Ge(0), Le(1)]
BelowOne = Annotated[float, Ge(0), Lt(1)]


def odd(value: int) -> bool:
    """Whether a number is odd, for ``Annotated[int, Predicate(odd)]``."""
    return value % 2 == 1


def ascending(values: Sequence[float]) -> bool:
    """Whether no value is below its predecessor, for ``Annotated[tuple[float, float], Predicate(ascending)]``."""
    return all(low <= high for low, high in itertools.pairwise(values))


def strictly_ascending(values: Sequence[float]) -> bool:
    """Whether every value is above its predecessor, for ``Predicate(strictly_ascending)``."""
    return all(low < high for low, high in itertools.pairwise(values))


_LITERALS = (bool, int, float, complex, str, bytes, type(None), list, tuple, dict, set, frozenset)
_INVALID = object()
_UNSHOWN = (LARGEST_COUNT, LARGEST_NUMBER, LARGEST_SEED)
_LARGEST = 2**63
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def check_arguments(function: Any, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Check arguments against the function's annotations and convert them: lists to tuples, NumPy numbers to Python numbers.

    Values that are not literals (a part, a module, a function, a tensor) satisfy every annotation that names a class; every value
    satisfies ``Any`` and annotations that cannot be resolved.

    Raises:
        PartArgumentError: a value is not allowed by its annotation; ``what`` names the part.
    """
    return check_values(resolve_annotations(function), given, what)


def check_values(hints: Mapping[str, Any], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Check values against annotations of the same names and convert them, as ``check_arguments`` does.

    Raises:
        PartArgumentError: a value is not allowed by its annotation; ``what`` names the part or function.
    """
    converted = {}
    for name, value in given.items():
        hint = hints.get(name, Any)
        converted[name] = _convert(value, hint)
        if converted[name] is _INVALID:
            suggestion = next(filter(None, (nearest(text, _choices(hint)) for text in _strings(value))), "")
            note = _note_on_size(value, hint) or (suggestion and "." + suggestion)
            raise PartArgumentError(
                f"{what}: {name}={short_repr(value)} must be {describe_annotation(hint)}{note}"
            )
    return converted


def _note_on_size(value: Any, hint: Any) -> str:
    """Return a note for a number that is too large, where the description of the annotation does not say so."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) > LARGEST_COUNT:
        return ""
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return " (integers have 64 bits)"
    bounds = [bound for bound in _upper_bounds(hint) if bound in _UNSHOWN and abs(value) > bound]
    return f" (at most {_format_bound(max(bounds))})" if bounds else ""


def _upper_bounds(hint: Any) -> list[Any]:
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        return [
            part.le for part in _flatten_constraints(tuple(metadata)) if isinstance(part, Le)
        ] + _upper_bounds(inner)
    if get_origin(hint) in (Union, types.UnionType):
        return [bound for argument in get_args(hint) for bound in _upper_bounds(argument)]
    return []


def short_repr(value: Any) -> str:
    """Format a value for a message: at most some sixty characters of each of its texts."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer with more digits than Python converts to text
        return f"a {type(value).__name__}"


def resolve_annotations(function: Any) -> dict[str, Any]:
    """Resolve the annotations of a function or a class's constructor one by one; those that cannot be resolved are ``Any``."""
    while isinstance(function, functools.partial):
        function = function.func
    init = getattr(function, "__init__") if isinstance(function, type) else function  # noqa: B009
    return _resolved_annotations(inspect.unwrap(init))


@functools.lru_cache(maxsize=1024)
def _resolved_annotations(function: Any) -> dict[str, Any]:
    resolved: dict[str, Any] = {}
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    unchecked = {
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in starred
    }
    for name, hint in getattr(function, "__annotations__", {}).items():
        if name in unchecked:
            continue
        holder = types.SimpleNamespace(__annotations__={name: hint})
        try:
            scope = getattr(function, "__globals__", {})
            resolved[name] = typing.get_type_hints(holder, scope, include_extras=True)[name]
        except (NameError, AttributeError, TypeError, SyntaxError):
            resolved[name] = Any  # imported only under TYPE_CHECKING, or a shape
    return resolved


def _convert(value: Any, hint: Any) -> Any:
    """Convert a value to the type of the hint; ``_INVALID`` if it is not allowed."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar | str) or hint is object:
        return value
    if origin is Annotated:
        converted = _convert(value, arguments[0])
        return (
            converted
            if converted is _INVALID
            or all(_satisfies(converted, constraint) for constraint in _flatten_constraints(arguments[1:]))
            else _INVALID
        )
    if origin in (Union, types.UnionType):
        tries = (_convert(value, alternative) for alternative in arguments)
        return next((converted for converted in tries if converted is not _INVALID), _INVALID)
    if origin is Literal:
        return (
            value
            if any(type(value) is type(alternative) and value == alternative for alternative in arguments)
            else _INVALID
        )
    if hint is None or hint is type(None):
        return None if value is None else _INVALID
    if hint is bool:
        return value if isinstance(value, bool) else _INVALID
    if hint is int:
        return _convert_integer(value)
    if hint is float:
        return _convert_number(value)
    if hint is tuple or origin is tuple:
        return _convert_tuple(value, arguments)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return _convert_mapping(value, arguments)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        return _convert_sequence(value, arguments)
    kind = origin or hint
    if not isinstance(kind, type):
        return value
    try:
        matches = isinstance(value, kind)
    except TypeError:  # a protocol that does not support isinstance
        return value
    return value if matches or not isinstance(value, _LITERALS) else _INVALID


def _convert_integer(value: Any) -> Any:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        return _INVALID
    whole = value if isinstance(value, int) else int(value)
    return whole if -_LARGEST <= whole < _LARGEST else _INVALID


def _convert_number(value: Any) -> Any:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return _INVALID
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return _INVALID
    if not finite or isinstance(value, int | float):
        return value if finite else _INVALID
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _convert_tuple(value: Any, arguments: tuple[Any, ...]) -> Any:
    """Convert to a tuple; lists are accepted, since JSON has no tuples."""
    if not isinstance(value, list | tuple):
        return _INVALID
    if not arguments:
        return tuple(value)
    hints = arguments[:1] * len(value) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
    if len(hints) != len(value):
        return _INVALID
    converted = tuple(_convert(item, hint) for item, hint in zip(value, hints, strict=True))
    return _INVALID if any(item is _INVALID for item in converted) else converted


def _convert_mapping(value: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, collections.abc.Mapping):
        return _INVALID
    keys, hint = arguments or (Any, Any)
    if hint is Any:
        return value
    converted = {_convert(key, keys): _convert(item, hint) for key, item in value.items()}
    return (
        _INVALID
        if _INVALID in converted or any(item is _INVALID for item in converted.values())
        else converted
    )


def _convert_sequence(value: Any, arguments: tuple[Any, ...]) -> Any:
    if isinstance(value, str | bytes) or not isinstance(value, collections.abc.Sequence):
        return _INVALID if isinstance(value, _LITERALS) else value
    converted = [_convert(item, (*arguments, Any)[0]) for item in value]
    return (
        _INVALID
        if any(item is _INVALID for item in converted)
        else converted
        if type(value) is list
        else value
    )


def _flatten_constraints(metadata: tuple[Any, ...]) -> list[Any]:
    """Return the constraints, with ``Interval`` and ``Len`` split up."""
    return [part for item in metadata for part in (item if isinstance(item, GroupedMetadata) else (item,))]


def _satisfies(value: Any, constraint: Any) -> bool:
    """Whether a value satisfies one constraint; other metadata is ignored."""
    match constraint:
        case Ge(ge=bound):
            return value >= bound
        case Gt(gt=bound):
            return value > bound
        case Le(le=bound):
            return value <= bound
        case Lt(lt=bound):
            return value < bound
        case MultipleOf(multiple_of=step):
            return value % step == 0
        case MinLen(min_length=least):
            return len(value) >= least
        case MaxLen(max_length=most):
            return len(value) <= most
        case Predicate(func=holds):
            return bool(holds(value))
    return True


def describe_annotation(hint: Any) -> str:
    """Describe the allowed values, as the end of a sentence: "an integer of at least 2", "'mean' or 'flatten'"."""
    *others, last = dict.fromkeys(_describe_type(alternative) for alternative in _alternatives(hint))
    return f"{', '.join(others)} or {last}" if others else last


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        return [part for argument in get_args(hint) for part in _alternatives(argument)]
    if get_origin(hint) is Literal:
        return [Literal[argument] for argument in get_args(hint)]
    return [hint]


def _choices(hint: Any) -> list[str]:
    """Return the string choices of a hint, including those inside tuples and mappings."""
    if get_origin(hint) is Literal:
        return [argument for argument in get_args(hint) if isinstance(argument, str)]
    return [choice for argument in get_args(hint) for choice in _choices(argument)]


def _strings(value: Any) -> list[str]:
    """Return the strings in a value, which may be misspelled choices."""
    if isinstance(value, collections.abc.Mapping):
        return [item for item in value.values() if isinstance(item, str)]
    if isinstance(value, list | tuple):
        return [item for item in value if isinstance(item, str)]
    return [value] if isinstance(value, str) else []


_TYPE_NAMES = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a string",
    type(None): "None",
    tuple: "a tuple",
}


def _describe_type(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return describe_annotation(arguments[0]) + _describe_bounds(_flatten_constraints(arguments[1:]))
    if origin is Literal:
        return repr(arguments[0])
    if hint in _TYPE_NAMES:
        return _TYPE_NAMES[hint]
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"a tuple, each item {describe_annotation(arguments[0])}"
        return f"a tuple ({', '.join(map(describe_annotation, arguments))})"
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return f"a mapping, each value {describe_annotation(arguments[1])}" if arguments else "a mapping"
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        return f"a list, each item {describe_annotation(arguments[0])}" if arguments else "a list"
    name = getattr(origin or hint, "__name__", str(hint))
    return {"PathLike": "a path", "Callable": "a function"}.get(
        name, f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
    )


def _format_bound(value: Any) -> str:
    """Format a bound: 2**24 rather than 16777216."""
    power = isinstance(value, int) and value >= 2**16 and value & (value - 1) == 0
    return f"2**{value.bit_length() - 1}" if power else str(value)


def _describe_bounds(constraints: list[Any]) -> str:
    bounds: dict[str, Any] = {}
    suffix = ""
    for constraint in constraints:
        match constraint:
            case Le(le=bound) if bound in _UNSHOWN:
                pass
            case Ge(ge=bound) if bound == -LARGEST_NUMBER:
                pass
            case Ge(ge=bound) | Gt(gt=bound) | Le(le=bound) | Lt(lt=bound):
                bounds[type(constraint).__name__] = _format_bound(bound)
            case MultipleOf(multiple_of=step):
                suffix += f", a multiple of {step}"
            case MinLen(min_length=least):
                suffix += f", at least {least} long"
            case MaxLen(max_length=most):
                suffix += f", at most {most} long"
            case Predicate(func=holds):
                suffix += f", {holds.__name__.replace('_', ' ')}"
    match bounds:
        case {"Ge": low, "Le": high}:
            return f" from {low} to {high}{suffix}"
        case {"Ge": low, "Lt": high}:
            return f" from {low} to below {high}{suffix}"
        case {"Gt": low, "Le": high}:
            return f" above {low} and up to {high}{suffix}"
        case {"Gt": low, "Lt": high}:
            return f" above {low} and below {high}{suffix}"
        case {"Ge": low}:
            return f" of at least {low}{suffix}"
        case {"Gt": low}:
            return f" above {low}{suffix}"
        case {"Le": high}:
            return f" of at most {high}{suffix}"
        case {"Lt": high}:
            return f" below {high}{suffix}"
    return suffix
