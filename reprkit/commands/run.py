"""``reprkit run RECIPE [flags]``: run a recipe, by name or file, as ``python RECIPE.py`` would; ``--again DIR``: a recorded run."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.again import Again, print_lines
from reprkit.commands.recipes import find, names
from reprkit.errors import ReprkitError

command = typer.Typer(add_completion=False)


# All arguments after the recipe are passed to it, --help included.
@command.command(context_settings={"allow_interspersed_args": False})
def run(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Name of a recipe (see: reprkit recipes), or a file.",
            autocompletion=names,
            show_default=False,
        ),
    ] = None,
    flags: Annotated[
        list[str] | None,
        typer.Argument(help="The recipe's own flags; RECIPE --help lists them.", show_default=False),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Instead of a recipe: make this run again.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --again: the folder to write to; by default the next number."),
    ] = None,
    trust_source: Annotated[
        bool,
        typer.Option(
            "--trust-source", help="With --again: run source of one's own, as the run's folder has it."
        ),
    ] = False,
) -> None:
    """Run a recipe by name or file, with its own flags; or make a run again.

    The exit code is the recipe's.  On several GPUs: torchrun --nproc-per-node 8 --no-python reprkit run RECIPE FLAGS
    """
    if (recipe is None) == (again is None):
        raise typer.BadParameter("give a recipe, or --again DIR")
    if recipe is not None:
        if out is not None or trust_source:
            raise typer.BadParameter(
                "--out and --trust-source belong to --again; a recipe's flags follow its name"
            )
        execute(locate(recipe), flags or [])
        return
    assert again is not None
    made = Again(again, out, trust_source=trust_source)
    print_lines(made.describe())
    with made.in_its_folder():
        if made.path is None:
            code = call(made.arguments)
        else:
            code = execute(made.path, made.arguments, keep_exit=True)
    if code:
        raise typer.Exit(code)
    print_lines(made.compare())


def execute(path: Path, arguments: list[str], *, keep_exit: bool = False) -> int:
    """Run a file as ``python PATH ARGUMENTS`` would; ``keep_exit`` returns its exit code instead of ending the process."""
    before = sys.argv, list(sys.path)
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))  # as python does, so that modules beside the recipe can be imported
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as ended:
        if not keep_exit or isinstance(ended.code, str):
            raise
        return int(ended.code or 0)
    finally:
        sys.argv, sys.path[:] = before
    return 0


def call(arguments: list[str]) -> int:
    """Call reprkit itself with another command line, and return its exit code."""
    from reprkit.commands.main import main

    before, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


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
