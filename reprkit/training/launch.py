"""Run a recipe from the command line with flags for the loop's options: ``rk.recipe(main)`` and ``rk.Launch``.  Torch-free.

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
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from reprkit.errors import PartArgumentError, ReprkitError, nearest
from reprkit.runs import origin
from reprkit.training.option_signatures import expand_options, keyword_parameters
from reprkit.training.options import Options, declaration_of, option_fields, option_types
from reprkit.training.recipe_folder import recipe_folder

# Option of rk.loop -> the type of its flag, and its help text; the loop itself checks the values.
_FIELDS = [field for field in option_fields(Options) if declaration_of(field).flag is not None]
FLAGS: Mapping[str, tuple[Any, str]] = MappingProxyType(
    {field.name: (declaration_of(field).flag, declaration_of(field).help) for field in _FIELDS}
)

_CONTEXT = "typer_context"


class Launch(Mapping[str, Any]):
    """Options of ``rk.loop`` for how a recipe is run, not what it computes; holds only those that were set.

    Unpack it into the loop: ``rk.loop(model, train, steps=steps, **launch)``.  As the default of a parameter of a recipe's
    ``main`` it holds the recipe's own choices, and ``rk.recipe`` makes every option a flag.

    Args:
        options: options of ``rk.loop`` that have a flag.

    Raises:
        PartArgumentError: an unknown option; the loop checks the values.
    """

    __slots__ = ("_options",)

    def __init__(self, **options: Any) -> None:
        for name in options:
            if name not in FLAGS:
                raise PartArgumentError(
                    f"Launch has no option {name!r}.{nearest(name, FLAGS)}\n  its options: {', '.join(FLAGS)}\n"
                    "  options of the recipe itself (steps, batch, lr, ...) are passed to rk.loop"
                )
        self._options: Mapping[str, Any] = MappingProxyType(dict(options))

    def __getitem__(self, name: str) -> Any:
        """Return the value of an option that was set."""
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the options that were set."""
        return iter(self._options)

    def __len__(self) -> int:
        """Return the number of options that were set."""
        return len(self._options)

    def __or__(self, other: Mapping[str, Any]) -> Launch:
        """Merge with other options, which take precedence."""
        return Launch(**{**self, **other})

    def __hash__(self) -> int:
        """Hash by names and values."""
        return hash(frozenset((name, repr(value)) for name, value in self.items()))

    def __repr__(self) -> str:
        """Return the call that creates it."""
        return f"Launch({', '.join(f'{name}={value!r}' for name, value in self.items())})"


# For help() and editors: the options as they are declared.
Launch.__doc__ = expand_options(Launch.__doc__ or "", _FIELDS, option_types(Options))
Launch.__signature__ = inspect.Signature(keyword_parameters(_FIELDS))  # type: ignore[attr-defined]


def recipe(main: Callable[..., Any]) -> None:
    """Run a recipe's ``main`` with the command line as its arguments, as ``typer.run`` does, and flags for its ``Launch``.

    A parameter ``launch: rk.Launch = rk.Launch(...)`` becomes one flag for each option of ``FLAGS``, with defaults from the given
    ``Launch``; typer handles every other parameter.  A parameter ``out`` is the folder that the recipe writes to: where it holds
    runs, see ``recipe_folder``.  A flag of one value that is given several times runs every combination and compares the runs, see
    ``reprkit.training.sweep``.  An error of reprkit is printed and ends the process with code 1.
    """
    import typer

    from reprkit.training.sweep import sweep_flags

    try:
        typer.run(_announced(sweep_flags(add_flags(main))))
    except ReprkitError as error:
        if os.environ.get("REPRKIT_PLUGIN_ERRORS") == "raise":
            raise
        print("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        sys.exit(1)


def _announced(main: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``main`` with a line on standard error before it starts, since imports and data may take long."""

    @functools.wraps(main)
    def call(**arguments: Any) -> Any:
        if os.environ.get("RANK", "0") == "0":
            print(f"{Path(sys.argv[0]).stem}: reading the data", file=sys.stderr, flush=True)
        return main(**arguments)

    return call


def add_flags(main: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``main`` with a parameter for each flag in place of its ``Launch``; unchanged if it has none.

    Raises:
        PartArgumentError: a ``Launch`` without a default, more than one, or a parameter with the name of a flag.
    """
    import typer

    signature = inspect.signature(main)
    hints = typing.get_type_hints(main, include_extras=True)
    own = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()]
    launches = [p for p in own if p.annotation is Launch or isinstance(p.default, Launch)]
    if not launches:
        return main
    if len(launches) > 1 or not isinstance(launches[0].default, Launch):
        raise PartArgumentError(
            f"{main.__name__}() takes one Launch, with a default: launch: rk.Launch = rk.Launch()"
        )
    launch = launches[0]
    rest = [p for p in own if p is not launch]
    for parameter in rest:
        if parameter.name in FLAGS:
            raise PartArgumentError(
                f"{main.__name__}() has a parameter {parameter.name!r}, which is also a flag of its Launch: remove it, and set its "
                f"default by rk.Launch({parameter.name}={parameter.default!r})"
            )
    flags = [_parameter(name, launch.default) for name in FLAGS]
    own_context = next((p.name for p in rest if p.annotation is typer.Context), None)

    @functools.wraps(main)
    def call(**arguments: Any) -> Any:
        values = {name: arguments.pop(name) for name in FLAGS}
        options = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if v not in (None, [])
        }
        chosen = launch.default | options
        context = arguments.get(own_context) if own_context else arguments.pop(_CONTEXT, None)
        with origin.use_recipe(main) as recipe:
            if isinstance(arguments.get("out"), str | os.PathLike) and arguments["out"]:
                given = context is None or context.get_parameter_source("out").name != "DEFAULT"
                recipe.out = _choose_folder(arguments, given, overwrite=bool(chosen.get("overwrite")))
            return main(**arguments, **{launch.name: chosen})

    # Typer passes its context, which knows whether an argument was given, to one parameter only.
    context = inspect.Parameter(
        _CONTEXT, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=typer.Context
    )
    parameters = [*rest, *flags, *([] if own_context else [context])]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def _choose_folder(arguments: dict[str, Any], given: bool, *, overwrite: bool) -> str:
    """Choose the folder that a recipe writes to, and put it into the argument ``out``."""
    asked = arguments["out"]
    folder = recipe_folder(
        Path(asked), given=given, resume=bool(arguments.get("resume")), overwrite=overwrite
    )
    if folder != Path(asked):
        arguments["out"] = type(asked)(str(folder))
    return str(folder)


def _parameter(name: str, defaults: Launch) -> inspect.Parameter:
    """Create one flag; its value None means that it was not given."""
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
