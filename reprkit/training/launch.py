"""How a recipe is run, as flags of its command line: ``rk.recipe(main)`` and ``rk.Launch``.  Imports no torch.

::

    def main(latent: str = "vq", steps: int = 2_000, launch: rk.Launch = rk.Launch(schedule="cosine")) -> None:
        ...
        for step in rk.loop(model, train, steps=steps, **launch):
            ...

    if __name__ == "__main__":
        rk.recipe(main)  # python recipe.py --latent binary --device cuda --precision bf16 --accumulate 4
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any

from reprkit.errors import PartArgumentError, ReprkitError, nearest
from reprkit.training.option_signatures import expand_options, keyword_parameters
from reprkit.training.options import Options, declaration_of, option_fields

# Option of rk.loop -> the type that its flag takes, and what it says; the loop itself checks the values.
_FIELDS = [field for field in option_fields(Options) if declaration_of(field).flag is not None]
FLAGS: Mapping[str, tuple[Any, str]] = MappingProxyType(
    {field.name: (declaration_of(field).flag, declaration_of(field).help) for field in _FIELDS}
)


class Launch(Mapping[str, Any]):
    """Options of ``rk.loop`` that say how a recipe is run, not what it is: only those that were set.

    It is unpacked into the loop: ``rk.loop(model, train, steps=steps, **launch)``.  As the default of a parameter of a recipe's
    ``main`` it holds the recipe's own choices, and ``rk.recipe`` makes a flag of every option.

    Args:
        options: those of ``rk.loop`` that have a flag.

    Raises:
        PartArgumentError: an option that is not among them; the loop checks the values.
    """

    __slots__ = ("_options",)

    def __init__(self, **options: Any) -> None:
        for name in options:
            if name not in FLAGS:
                raise PartArgumentError(
                    f"Launch has no option {name!r}.{nearest(name, FLAGS)}\n  its options: {', '.join(FLAGS)}\n"
                    "  what belongs to the recipe (steps, batch, lr, ...) is given to rk.loop itself"
                )
        self._options: Mapping[str, Any] = MappingProxyType(dict(options))

    def __getitem__(self, name: str) -> Any:
        """The value of an option that was set."""
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        """Names of the options that were set."""
        return iter(self._options)

    def __len__(self) -> int:
        """How many were set."""
        return len(self._options)

    def __or__(self, other: Mapping[str, Any]) -> Launch:
        """These options, replaced by the other's where it has them."""
        return Launch(**{**self, **other})

    def __hash__(self) -> int:
        """Equal ones have equal hashes."""
        return hash(frozenset((name, repr(value)) for name, value in self.items()))

    def __repr__(self) -> str:
        """As it is written in a recipe."""
        return f"Launch({', '.join(f'{name}={value!r}' for name, value in self.items())})"


# What help() and editors show: the options, as they are declared.
Launch.__doc__ = expand_options(Launch.__doc__ or "", _FIELDS)
Launch.__signature__ = inspect.Signature(keyword_parameters(_FIELDS))  # type: ignore[attr-defined]


def recipe(main: Callable[..., Any]) -> None:
    """Run a recipe's ``main`` with the command line as its arguments, as ``typer.run`` does, and flags for its ``Launch``.

    A parameter ``launch: rk.Launch = rk.Launch(...)`` becomes one flag for each option of ``FLAGS``, whose defaults the given
    ``Launch`` holds; every other parameter is typer's.  What reprkit refuses ends the process with code 1 and its message.
    """
    import typer

    try:
        typer.run(add_flags(main))
    except ReprkitError as error:
        if os.environ.get("REPRKIT_PLUGIN_ERRORS") == "raise":
            raise
        print("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        sys.exit(1)


def add_flags(main: Callable[..., Any]) -> Callable[..., Any]:
    """``main`` with a parameter for each flag in the place of its ``Launch``; as it is when it has none.

    Raises:
        PartArgumentError: a ``Launch`` without a default, more than one, or a parameter that has the name of a flag.
    """
    signature = inspect.signature(main)
    hints = typing.get_type_hints(main, include_extras=True)
    own = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()]
    places = [p for p in own if p.annotation is Launch or isinstance(p.default, Launch)]
    if not places:
        return main
    if len(places) > 1 or not isinstance(places[0].default, Launch):
        raise PartArgumentError(
            f"{main.__name__}() takes one Launch, with a default: launch: rk.Launch = rk.Launch()"
        )
    place = places[0]
    rest = [p for p in own if p is not place]
    for each in rest:
        if each.name in FLAGS:
            raise PartArgumentError(
                f"{main.__name__}() has a parameter {each.name!r}, which is also a flag of its Launch: take it out, and give its "
                f"default as rk.Launch({each.name}={each.default!r})"
            )
    made = [_parameter(name, place.default) for name in FLAGS]

    @functools.wraps(main)
    def called(**given: Any) -> Any:
        said = {name: given.pop(name) for name in FLAGS}
        asked = {
            name: tuple(v) if isinstance(v, list) else v for name, v in said.items() if v not in (None, [])
        }
        return main(**given, **{place.name: place.default | asked})

    called.__signature__ = signature.replace(parameters=[*rest, *made])  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in (*rest, *made)}
    return called


def _parameter(name: str, defaults: Launch) -> inspect.Parameter:
    """One flag; None means that it was not given."""
    import typer

    kind, text = FLAGS[name]
    several = kind == tuple[str, ...]
    value = defaults.get(name)
    shown = " ".join(value) if several and isinstance(value, tuple) else value
    option = typer.Option(
        help=text, show_default=False if shown in (None, "") else str(shown), rich_help_panel="How it is run"
    )
    annotation = Annotated[(list[str] if several else kind) | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
