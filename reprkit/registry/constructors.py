"""Check the arguments of constructors, also of direct calls, and accept the former names of renamed ones.

Imports neither torch nor numpy.
"""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from reprkit.errors import PartArgumentError
from reprkit.registry.constraints import check_arguments

_CONSTRUCTING = "_reprkit_constructor_runs"
_part_name: ContextVar[str | None] = ContextVar("reprkit_part_name", default=None)


@contextmanager
def named_in_errors(what: str) -> Iterator[None]:
    """Context for creating one part that error messages call ``what``, such as "latent vq"."""
    token = _part_name.set(what)
    try:
        yield
    finally:
        _part_name.reset(token)


def wrap_constructor(
    init: Any, *, skip: tuple[str, ...] = (), record: Callable[..., None] | None = None
) -> Any:
    """Wrap a constructor so that it checks its arguments when called directly, but not when called by a subclass.

    Args:
        init: the ``__init__`` to wrap.
        skip: names of arguments that are neither checked nor recorded.
        record: called with the instance and the given arguments by name.
    """
    signature = inspect.signature(init)
    var_keyword = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        if _CONSTRUCTING in self.__dict__:
            init(self, *args, **kwargs)
            return
        what = _part_name.get() or _title(self)
        kwargs = apply_renamed_arguments(type(self), kwargs, what)
        bound = signature.bind(self, *args, **kwargs)
        given = dict(list(bound.arguments.items())[1:])
        bound.arguments.update(check_arguments(init, {k: v for k, v in given.items() if k not in skip}, what))
        if record is not None:
            given = {name: bound.arguments[name] for name in given}
            given.update(given.pop(var_keyword, {}) if var_keyword else {})
            record(self, given)
        token = _part_name.set(None)  # parts created inside this constructor have their own names
        object.__setattr__(self, _CONSTRUCTING, True)
        try:
            init(*bound.args, **bound.kwargs)
        finally:
            object.__delattr__(self, _CONSTRUCTING)
            _part_name.reset(token)

    return wrapper


def _title(part: Any) -> str:
    return f"{getattr(type(part), 'kind', 'dataset')} {type(part).__name__}"


def apply_renamed_arguments(cls: Any, given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Rename former argument names to present ones, as listed in the part's ``renamed_arguments`` (former -> present).

    Warns:
        DeprecationWarning: an argument is given by a former name.

    Raises:
        PartArgumentError: an argument is given by both names.
    """
    former: Mapping[str, str] = getattr(cls, "renamed_arguments", {})
    arguments = dict(given)
    for old, new in former.items():
        if old not in arguments:
            continue
        if new in arguments:
            raise PartArgumentError(f"{what}: {old}= is the former name of {new}=; pass only {new}=")
        warnings.warn(f"{what}: {old}= is now called {new}=", DeprecationWarning, stacklevel=_caller_level())
        arguments[new] = arguments.pop(old)
    return arguments


def _caller_level() -> int:
    """Return the ``stacklevel`` of the first caller outside of reprkit; Python shows a DeprecationWarning only there."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "reprkit":
        frame, level = frame.f_back, level + 1
    return level
