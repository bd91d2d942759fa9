"""Create signatures and docstrings from declared options, for ``rk.loop``, ``rk.fit`` and ``rk.Launch``.  Torch-free."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    TypeVar,
    get_args,
    get_origin,
)

from reprkit.errors import PartArgumentError, nearest
from reprkit.registry.constraints import describe_annotation
from reprkit.registry.sources import format_type
from reprkit.training.options import Options, declaration_of, option_fields, option_types

if TYPE_CHECKING:
    from reprkit.models.model import Model

P = ParamSpec("P")
O = TypeVar("O", bound=Options)  # noqa: E741
R = TypeVar("R")
_WIDTH = 120  # of a docstring's lines


def with_options(
    options: Callable[P, O],
) -> Callable[[Callable[[Model, Any, O], R]], Callable[Concatenate[Model, Any, P], R]]:
    """Turn a function of (model, data, options) into one that takes each option as a keyword.

    Type checkers read the signature from the dataclass; at run time it is the function's ``__signature__``, with resolved types.
    The line ``options: ...`` of the docstring becomes one entry for each option.

    Args:
        options: the dataclass that declares the options.
    """
    import torch
    from torch.optim import Optimizer

    cls: Any = options
    fields = option_fields(cls)
    hints = typing.get_type_hints(cls, localns={"torch": torch, "Optimizer": Optimizer})

    def decorate(body: Callable[[Model, Any, O], R]) -> Callable[Concatenate[Model, Any, P], R]:
        signature = inspect.signature(body)
        own = list(signature.parameters.values())[:-1]
        signature = signature.replace(parameters=[*own, *keyword_parameters(fields, hints)])
        names = [parameter.name for parameter in own]

        @functools.wraps(body)
        def call(*args: Any, **keywords: Any) -> R:
            for name in keywords:
                if name not in signature.parameters:
                    raise PartArgumentError(
                        f"rk.{body.__name__} has no option {name!r}.{nearest(name, signature.parameters)}\n"
                        f"  its options: {', '.join(field.name for field in fields)}"
                    )
            try:
                bound = signature.bind(*args, **keywords).arguments
            except TypeError as error:
                raise PartArgumentError(f"rk.{body.__name__}: {error}") from None
            first, second = (bound.pop(name) for name in names)
            return body(first, second, options(**bound))  # type: ignore[call-arg]

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {**{name: body.__annotations__[name] for name in names}, **hints}
        call.__annotations__["return"] = body.__annotations__["return"]
        call.__doc__ = expand_options(body.__doc__ or "", fields, option_types(cls))
        return call

    return decorate


def keyword_parameters(
    fields: Iterable[dataclasses.Field[Any]], hints: dict[str, Any] | None = None
) -> list[inspect.Parameter]:
    """Return the options as keyword-only parameters; without ``hints`` their annotations are text, such as ``int >= 1``."""
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=format_type(str(field.type), Options.__module__)
            if hints is None
            else hints[field.name],
        )
        for field in fields
    ]


def expand_options(text: str, fields: Iterable[dataclasses.Field[Any]], types: Mapping[str, Any]) -> str:
    """Replace the line ``options: ...`` of a docstring, under ``Args:``, by an entry for each option.

    Args:
        text: the docstring.
        fields: the options.
        types: option -> its annotation, as from ``option_types``.
    """
    lines = text.splitlines()
    row = next(number for number, line in enumerate(lines) if line.strip().startswith("options: "))
    indent = lines[row][: len(lines[row]) - len(lines[row].lstrip())]
    entries = [
        line
        for field in fields
        for line in textwrap.wrap(
            f"{field.name}: {describe_option(field, types[field.name])}",
            _WIDTH,
            initial_indent=indent,
            subsequent_indent=indent + "    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
    return "\n".join([*lines[:row], *entries, *lines[row + 1 :]])


def describe_option(field: dataclasses.Field[Any], hint: Any) -> str:
    """Return the documentation of an option: its text, then the values that its annotation ``hint`` allows."""
    declaration = declaration_of(field)
    sentences = [f"{declaration.help}."]
    if declaration.more:
        sentences.append(declaration.more)
    if _is_constrained(hint):
        sentences.append(f"It must be {describe_annotation(hint)}.")
    return "  ".join(sentences)


def _is_constrained(hint: Any) -> bool:
    """Whether an annotation says more than a type."""
    return get_origin(hint) in (Annotated, Literal) or any(map(_is_constrained, get_args(hint)))
