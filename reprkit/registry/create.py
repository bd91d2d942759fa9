"""From a reference to a part: find the class, check the arguments against its constructor, hand over what build knows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from reprkit.data.base import Dataset
from reprkit.errors import PartArgumentError, nearest
from reprkit.interfaces import BUILD_CONTEXT, Part
from reprkit.registry.constraints import apply_renamed_arguments, check_arguments, named_in_errors
from reprkit.registry.hookspecs import PROJECT
from reprkit.registry.references import Reference, parse
from reprkit.registry.registry import Registry, default_registry

_restoring: ContextVar[bool] = ContextVar("reprkit_restoring", default=False)


def is_restoring() -> bool:
    """Whether parts are now being made for a checkpoint, whose weights replace theirs.

    A part that starts from a file of weights does not read it then: the file need not exist any more.
    """
    return _restoring.get()


@contextmanager
def restoring_checkpoint() -> Iterator[None]:
    """A block in which parts are made for a checkpoint."""
    token = _restoring.set(True)
    try:
        yield
    finally:
        _restoring.reset(token)


def create(kind: str, part: str | Reference | Any, *, registry: Registry | None = None, **facts: Any) -> Any:
    """Make one part: ``create("latent", "vq(codes=512, dim=64)")``; an instance is returned as it is.

    Args:
        kind: "encoder", "latent", "decoder", "objective", "corruption", "dataset" or "evaluator".
        part: a reference, or an instance.
        registry: where to look it up; the process-wide one when not given.
        facts: ``data=`` and ``tokens=``, handed over where the constructor has them; any other keyword is an argument.

    Raises:
        ReferenceSyntaxError: the reference cannot be read.
        UnknownPartError: nobody offers the name, or two do.
        PartArgumentError: an argument that the part does not have, or a value that it refuses.
    """
    if not isinstance(part, str | Reference):
        return part
    reference = parse(part) if isinstance(part, str) else part
    registry = registry or default_registry()
    found = registry.find(kind, reference)
    cls = registry.load(kind, reference)
    given = {**reference.arguments, **{k: v for k, v in facts.items() if k not in BUILD_CONTEXT}}
    handed = {k: v for k, v in facts.items() if k in BUILD_CONTEXT and v is not None}
    made = construct(cls, given, handed, f"{kind} {found.qualified.removeprefix(f'{PROJECT}/')}")
    if isinstance(made, Part):
        made.qualified = found.qualified
    return made


def construct(cls: Any, given: Mapping[str, Any], facts: Mapping[str, Any], what: str) -> Any:
    """Call a part's constructor with checked arguments; ``what`` names it in errors."""
    parameters = dict(inspect.signature(cls).parameters)
    # A data set is handed no facts: to it, data= is an argument like any other.
    reserved = () if isinstance(cls, type) and issubclass(cls, Dataset) else BUILD_CONTEXT
    facts = {name: value for name, value in facts.items() if name in reserved}
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    known = [name for name in parameters if name not in reserved]
    given = apply_renamed_arguments(cls, given, what)
    for name in given:
        if name not in known and not open_ended:
            raise PartArgumentError(
                f"{what} has no argument {name!r}.{nearest(name, known)}\n  its arguments: {', '.join(known) or 'none'}"
            )
    missing = [
        name
        for name, p in parameters.items()
        if p.default is inspect.Parameter.empty
        and p.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        and name not in given
        and name not in facts
    ]
    if missing:
        facts_too = [name for name in missing if name in reserved]
        hint = " (data= is handed over by rk.build(data=...))" if facts_too else ""
        raise PartArgumentError(f"{what} needs {', '.join(missing)}{hint}")
    arguments = {**given, **{k: v for k, v in facts.items() if k in parameters}}
    try:
        if not (isinstance(cls, type) and issubclass(cls, Part | Dataset)):
            return cls(**check_arguments(cls, arguments, what))
        with named_in_errors(what):  # it checks them when it is called
            return cls(**arguments)
    except Exception as error:
        error.add_note(f"while making {what}")
        raise
