"""Create a part from a reference: find the class, check the arguments, and pass the build context to the constructor."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from reprkit.errors import PartArgumentError, nearest
from reprkit.interfaces import BUILD_CONTEXT, Part
from reprkit.registry.constraints import check_arguments
from reprkit.registry.constructors import apply_renamed_arguments, named_in_errors
from reprkit.registry.hookspecs import PROJECT
from reprkit.registry.references import Reference, parse
from reprkit.registry.registry import Registry, default_registry

_restoring: ContextVar[bool] = ContextVar("reprkit_restoring", default=False)


def is_restoring() -> bool:
    """Whether parts are being created for a checkpoint, whose weights will replace theirs.

    A part that is initialized from a file of weights must not read it then: the file may no longer exist.
    """
    return _restoring.get()


@contextmanager
def restoring_checkpoint() -> Iterator[None]:
    """Context in which parts are created for a checkpoint."""
    token = _restoring.set(True)
    try:
        yield
    finally:
        _restoring.reset(token)


def create(
    kind: str, part: str | Reference | Any, *, registry: Registry | None = None, **context: Any
) -> Any:
    """Create one part: ``create("latent", "vq(codes=512, dim=64)")``; an instance is returned unchanged.

    Args:
        kind: "encoder", "latent", "decoder", "likelihood", "objective", "corruption", "dataset" or "evaluator".
        part: a reference, or an instance.
        registry: where to look it up; by default the process-wide registry.
        context: the build context ``data=`` and ``tokens=``, passed if the constructor has them; all other keywords are arguments.

    Raises:
        ReferenceSyntaxError: the reference cannot be read.
        UnknownPartError: no plugin offers the name, or several do.
        PartArgumentError: the part has no such argument, or rejects its value.
    """
    if not isinstance(part, str | Reference):
        return part
    reference = parse(part) if isinstance(part, str) else part
    registry = registry or default_registry()
    found_part = registry.find(kind, reference)
    cls = registry.load(kind, reference)
    given = {**reference.arguments, **{k: v for k, v in context.items() if k not in BUILD_CONTEXT}}
    passed_context = {k: v for k, v in context.items() if k in BUILD_CONTEXT and v is not None}
    part = construct(cls, given, passed_context, f"{kind} {found_part.qualified.removeprefix(f'{PROJECT}/')}")
    if isinstance(part, Part):
        part.qualified = found_part.qualified
    return part


def construct(cls: Any, given: Mapping[str, Any], context: Mapping[str, Any], what: str) -> Any:
    """Call a part's constructor with checked arguments; error messages call the part ``what``."""
    from reprkit.data.base import Dataset  # not above: reprkit.data imports this module

    parameters = dict(inspect.signature(cls).parameters)
    # A data set gets no build context: its data= is an ordinary argument.
    reserved = () if isinstance(cls, type) and issubclass(cls, Dataset) else BUILD_CONTEXT
    context = {name: value for name, value in context.items() if name in reserved}
    has_var_keyword = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    known = [name for name in parameters if name not in reserved]
    given = apply_renamed_arguments(cls, given, what)
    for name in given:
        if name not in known and not has_var_keyword:
            raise PartArgumentError(
                f"{what} has no argument {name!r}.{nearest(name, known)}\n  its arguments: {', '.join(known) or 'none'}"
            )
    missing = [
        name
        for name, p in parameters.items()
        if p.default is inspect.Parameter.empty
        and p.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        and name not in given
        and name not in context
    ]
    if missing:
        missing_context = [name for name in missing if name in reserved]
        hint = " (data= is passed by rk.build(data=...))" if missing_context else ""
        raise PartArgumentError(f"{what} needs {', '.join(missing)}{hint}")
    arguments = {**given, **{k: v for k, v in context.items() if k in parameters}}
    try:
        if not (isinstance(cls, type) and issubclass(cls, Part | Dataset)):
            return cls(**check_arguments(cls, arguments, what))
        with named_in_errors(what):  # the constructor itself checks the arguments
            return cls(**arguments)
    except Exception as error:
        error.add_note(f"while creating {what}")
        raise
