"""``reprkit run RECIPE [flags]``: run a recipe, by name or file, as ``python RECIPE.py`` would."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.recipes import find, names
from reprkit.errors import ReprkitError

command = typer.Typer(add_completion=False)


# All arguments after the recipe are passed to it, --help included.
@command.command(context_settings={"allow_interspersed_args": False})
def run(
    recipe: Annotated[
        str,
        typer.Argument(help="Name of a recipe (see: reprkit recipes), or a file.", autocompletion=names),
    ],
    flags: Annotated[
        list[str] | None,
        typer.Argument(help="The recipe's own flags; RECIPE --help lists them.", show_default=False),
    ] = None,
) -> None:
    """Run a recipe, by name or file, with its own flags.

    The exit code is the recipe's.  On several GPUs: torchrun --nproc-per-node 8 --no-python reprkit run RECIPE FLAGS
    """
    path = locate(recipe)
    before = sys.argv, list(sys.path)
    sys.argv = [str(path), *(flags or [])]
    sys.path.insert(0, str(path.parent))  # as python does, so that modules beside the recipe can be imported
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = before


def locate(recipe: str) -> Path:
    """The file of a recipe; an argument with a path separator or the suffix .py is a path, any other a name.

    Raises:
        ReprkitError: there is no such file or recipe.
    """
    if not recipe.endswith(".py") and "/" not in recipe and "\\" not in recipe:
        return find(recipe).path
    path = Path(recipe)
    if not path.is_file():
        raise ReprkitError(f"there is no file {recipe} (looked in {Path.cwd()}); see: reprkit recipes")
    return path
