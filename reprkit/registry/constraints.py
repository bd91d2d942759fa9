"""Constraints of constructor arguments, declared in annotations and checked here for every way a part is made.

``codes: Annotated[int, Ge(2)] = 512`` (constraints of the library ``annotated-types``), ``pool: Literal["mean", "flatten"]``, and
types themselves.  A reference, a manifest and a direct call all come here, so a part checks only relations between arguments, with
``require``.  Neither torch nor numpy is imported.
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
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen, MultipleOf, Predicate

from reprkit.errors import PartArgumentError, nearest

# Upper bounds refuse, before any memory is asked for, sizes that only a mistake asks for.
Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Width = Annotated[int, Ge(1), Le(2**20)]
Depth = Annotated[int, Ge(1), Le(1000)]
DepthOrZero = Annotated[int, Ge(0), Le(1000)]
Seed = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
BelowOne = Annotated[float, Ge(0), Lt(1)]


def odd(value: int) -> bool:
    """For ``Annotated[int, Predicate(odd)]``."""
    return value % 2 == 1


def ascending(values: Sequence[float]) -> bool:
    """For ``Annotated[tuple[float, float], Predicate(ascending)]``: no value is below the one before it."""
    return all(low <= high for low, high in itertools.pairwise(values))


def strictly_ascending(values: Sequence[float]) -> bool:
    """For ``Predicate(strictly_ascending)``: every value is above the one before it."""
    return all(low < high for low, high in itertools.pairwise(values))


_LITERALS = (bool, int, float, complex, str, bytes, type(None), list, tuple, dict, set, frozenset)
_REFUSED = object()
_LARGEST = 2**63
_INSIDE = "_reprkit_constructor_runs"
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_asked: ContextVar[str | None] = ContextVar("reprkit_part_asked", default=None)


@contextmanager
def named_in_errors(what: str) -> Iterator[None]:
    """A block in which one part is made whose name in errors is ``what``, such as "latent vq"."""
    token = _asked.set(what)
    try:
        yield
    finally:
        _asked.reset(token)


def wrap_constructor(
    init: Any, *, skip: tuple[str, ...] = (), record: Callable[..., None] | None = None
) -> Any:
    """A constructor that checks its arguments when it is the one that was called, not when a subclass calls it.

    Args:
        init: an ``__init__``.
        skip: arguments that are neither checked nor recorded.
        record: called with the instance, and the arguments that were given, by name.
    """
    signature = inspect.signature(init)
    open_ended = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        if _INSIDE in self.__dict__:
            init(self, *args, **kwargs)
            return
        kwargs = apply_renamed_arguments(type(self), kwargs, _asked.get() or _title(self))
        bound = signature.bind(self, *args, **kwargs)
        given = dict(list(bound.arguments.items())[1:])
        what = _asked.get() or _title(self)
        bound.arguments.update(check_arguments(init, {k: v for k, v in given.items() if k not in skip}, what))
        if record is not None:
            given = {name: bound.arguments[name] for name in given}
            given.update(given.pop(open_ended, {}) if open_ended else {})
            record(self, given)
        token = _asked.set(None)  # a part that this one makes has a name of its own
        object.__setattr__(self, _INSIDE, True)
        try:
            init(*bound.args, **bound.kwargs)
        finally:
            object.__delattr__(self, _INSIDE)
            _asked.reset(token)

    return wrapper


def _title(part: Any) -> str:
    return f"{getattr(type(part), 'kind', 'dataset')} {type(part).__name__}"


def apply_renamed_arguments(cls: Any, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The arguments under their present names; a part lists former ones in ``renamed_arguments`` (former -> present).

    Warns:
        DeprecationWarning: an argument is given under a former name.

    Raises:
        PartArgumentError: an argument is given under both names.
    """
    former: Mapping[str, str] = getattr(cls, "renamed_arguments", {})
    arguments = dict(given)
    for old, new in former.items():
        if old not in arguments:
            continue
        if new in arguments:
            raise PartArgumentError(f"{what}: {old}= is the former name of {new}=; give only {new}=")
        warnings.warn(f"{what}: {old}= is now called {new}=", DeprecationWarning, stacklevel=4)
        arguments[new] = arguments.pop(old)
    return arguments


def check_arguments(function: Any, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The arguments as the function's annotations ask for them: lists become tuples, numbers of numpy those of Python.

    What is no literal (a part, a module, a function, a tensor) fits every annotation that names a class, and everything fits
    ``Any`` and an annotation that cannot be resolved.

    Raises:
        PartArgumentError: a value that its annotation does not allow; ``what`` names the part.
    """
    hints = resolve_annotations(function)
    made = {}
    for name, value in given.items():
        hint = hints.get(name, Any)
        made[name] = _fitted(value, hint)
        if made[name] is _REFUSED:
            meant = next(filter(None, (nearest(each, _choices(hint)) for each in _strings(value))), "")
            large = isinstance(value, int) and abs(value) >= _LARGEST
            note = " (integers have 64 bits)" if large else meant and "." + meant
            raise PartArgumentError(
                f"{what}: {name}={_shown(value)} must be {describe_annotation(hint)}{note}"
            )
    return made


def _shown(value: Any) -> str:
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer of more digits than Python writes out
        return f"a {type(value).__name__}"


def resolve_annotations(function: Any) -> dict[str, Any]:
    """The annotations of a function or of a class's constructor, each resolved on its own; ``Any`` where it cannot be."""
    while isinstance(function, functools.partial):
        function = function.func
    init = getattr(function, "__init__") if isinstance(function, type) else function  # noqa: B009
    return _annotations(inspect.unwrap(init))


@functools.lru_cache(maxsize=1024)
def _annotations(function: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    unchecked = {
        each.name for each in inspect.signature(function).parameters.values() if each.kind in starred
    }
    for name, hint in getattr(function, "__annotations__", {}).items():
        if name in unchecked:
            continue
        holder = types.SimpleNamespace(__annotations__={name: hint})
        try:
            scope = getattr(function, "__globals__", {})
            found[name] = typing.get_type_hints(holder, scope, include_extras=True)[name]
        except (NameError, AttributeError, TypeError, SyntaxError):
            found[name] = Any  # it stands under TYPE_CHECKING, or is a shape in words
    return found


def _fitted(value: Any, hint: Any) -> Any:
    """The value as the hint asks for it, or ``_REFUSED``."""
    origin, inside = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar | str) or hint is object:
        return value
    if origin is Annotated:
        made = _fitted(value, inside[0])
        return made if made is _REFUSED or all(_holds(made, each) for each in _flat(inside[1:])) else _REFUSED
    if origin in (Union, types.UnionType):
        tries = (_fitted(value, each) for each in inside)
        return next((made for made in tries if made is not _REFUSED), _REFUSED)
    if origin is Literal:
        return value if any(type(value) is type(each) and value == each for each in inside) else _REFUSED
    if hint is None or hint is type(None):
        return None if value is None else _REFUSED
    if hint is bool:
        return value if isinstance(value, bool) else _REFUSED
    if hint is int:
        return _integer(value)
    if hint is float:
        return _number(value)
    if hint is tuple or origin is tuple:
        return _tuple(value, inside)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return _mapping(value, inside)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        return _sequence(value, inside)
    kind = origin or hint
    if not isinstance(kind, type):
        return value
    try:
        belongs = isinstance(value, kind)
    except TypeError:  # a protocol that cannot be asked
        return value
    return value if belongs or not isinstance(value, _LITERALS) else _REFUSED


def _integer(value: Any) -> Any:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        return _REFUSED
    whole = value if isinstance(value, int) else int(value)
    return whole if -_LARGEST <= whole < _LARGEST else _REFUSED


def _number(value: Any) -> Any:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return _REFUSED
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return _REFUSED
    if not finite or isinstance(value, int | float):
        return value if finite else _REFUSED
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _tuple(value: Any, inside: tuple[Any, ...]) -> Any:
    """JSON knows only lists, so a list is taken for a tuple."""
    if not isinstance(value, list | tuple):
        return _REFUSED
    if not inside:
        return tuple(value)
    hints = inside[:1] * len(value) if len(inside) == 2 and inside[1] is Ellipsis else inside
    if len(hints) != len(value):
        return _REFUSED
    made = tuple(_fitted(each, hint) for each, hint in zip(value, hints, strict=True))
    return _REFUSED if any(each is _REFUSED for each in made) else made


def _mapping(value: Any, inside: tuple[Any, ...]) -> Any:
    if not isinstance(value, collections.abc.Mapping):
        return _REFUSED
    keys, hint = inside or (Any, Any)
    if hint is Any:
        return value
    made = {_fitted(key, keys): _fitted(each, hint) for key, each in value.items()}
    return _REFUSED if _REFUSED in made or any(each is _REFUSED for each in made.values()) else made


def _sequence(value: Any, inside: tuple[Any, ...]) -> Any:
    if isinstance(value, str | bytes) or not isinstance(value, collections.abc.Sequence):
        return _REFUSED if isinstance(value, _LITERALS) else value
    made = [_fitted(each, (*inside, Any)[0]) for each in value]
    return _REFUSED if any(each is _REFUSED for each in made) else made if type(value) is list else value


def _flat(metadata: tuple[Any, ...]) -> list[Any]:
    """The constraints, those of ``Interval`` and ``Len`` one by one."""
    return [part for each in metadata for part in (each if isinstance(each, GroupedMetadata) else (each,))]


def _holds(value: Any, constraint: Any) -> bool:
    """Whether one constraint holds; other metadata says nothing."""
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
    """What a value must be, for the end of a sentence: "an integer of at least 2", "'mean' or 'flatten'"."""
    *others, last = dict.fromkeys(_words(each) for each in _alternatives(hint))
    return f"{', '.join(others)} or {last}" if others else last


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        return [part for each in get_args(hint) for part in _alternatives(each)]
    if get_origin(hint) is Literal:
        return [Literal[each] for each in get_args(hint)]
    return [hint]


def _choices(hint: Any) -> list[str]:
    """The strings that may be chosen from, also inside of tuples and mappings."""
    if get_origin(hint) is Literal:
        return [each for each in get_args(hint) if isinstance(each, str)]
    return [choice for each in get_args(hint) for choice in _choices(each)]


def _strings(value: Any) -> list[str]:
    """A string, or those inside, that may be meant for a choice."""
    if isinstance(value, collections.abc.Mapping):
        return [each for each in value.values() if isinstance(each, str)]
    if isinstance(value, list | tuple):
        return [each for each in value if isinstance(each, str)]
    return [value] if isinstance(value, str) else []


_NAMES = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a string",
    type(None): "None",
    tuple: "a tuple",
}


def _words(hint: Any) -> str:
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return describe_annotation(inside[0]) + _bounds(_flat(inside[1:]))
    if origin is Literal:
        return repr(inside[0])
    if hint in _NAMES:
        return _NAMES[hint]
    if origin is tuple:
        if len(inside) == 2 and inside[1] is Ellipsis:
            return f"a tuple, each item {describe_annotation(inside[0])}"
        return f"a tuple ({', '.join(map(describe_annotation, inside))})"
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return f"a mapping, each value {describe_annotation(inside[1])}" if inside else "a mapping"
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        return f"a list, each item {describe_annotation(inside[0])}" if inside else "a list"
    name = getattr(origin or hint, "__name__", str(hint))
    return {"PathLike": "a path", "Callable": "a function"}.get(
        name, f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
    )


def _bound(value: Any) -> str:
    """2**24 rather than 16777216."""
    power = isinstance(value, int) and value >= 2**16 and value & (value - 1) == 0
    return f"2**{value.bit_length() - 1}" if power else str(value)


def _bounds(constraints: list[Any]) -> str:
    found: dict[str, Any] = {}
    said = ""
    for each in constraints:
        match each:
            case Ge(ge=bound) | Gt(gt=bound) | Le(le=bound) | Lt(lt=bound):
                found[type(each).__name__] = _bound(bound)
            case MultipleOf(multiple_of=step):
                said += f", a multiple of {step}"
            case MinLen(min_length=least):
                said += f", at least {least} long"
            case MaxLen(max_length=most):
                said += f", at most {most} long"
            case Predicate(func=holds):
                said += f", {holds.__name__.replace('_', ' ')}"
    match found:
        case {"Ge": low, "Le": high}:
            return f" from {low} to {high}{said}"
        case {"Ge": low, "Lt": high}:
            return f" from {low} to below {high}{said}"
        case {"Gt": low, "Le": high}:
            return f" above {low} and up to {high}{said}"
        case {"Gt": low, "Lt": high}:
            return f" above {low} and below {high}{said}"
        case {"Ge": low}:
            return f" of at least {low}{said}"
        case {"Gt": low}:
            return f" above {low}{said}"
        case {"Le": high}:
            return f" of at most {high}{said}"
        case {"Lt": high}:
            return f" below {high}{said}"
    return said
