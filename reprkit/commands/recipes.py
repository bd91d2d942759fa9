"""``reprkit recipes``: list the recipes that come with reprkit; ``reprkit recipes copy NAME`` copies one to your own file."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json, emit_table
from reprkit.errors import ReprkitError, nearest
from reprkit.utils.atomic_files import write_text


@dataclass(frozen=True)
class Recipe:
    """A recipe: one file with a complete system."""

    name: str
    path: Path

    @property
    def doc(self) -> str:
        """Its docstring; empty if there is none or the file cannot be read."""
        try:
            return ast.get_docstring(ast.parse(self.path.read_bytes())) or ""
        except (OSError, SyntaxError, ValueError):
            return ""

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return self.doc.partition("\n")[0]


def folder() -> Path:
    """The folder of the recipes: inside the installed package, beside the package in a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "_recipes"
    return shipped if shipped.is_dir() else package.parent / "recipes"


def recipes() -> list[Recipe]:
    """All recipes, sorted by name."""
    return [
        Recipe(path.stem, path) for path in sorted(folder().glob("*.py")) if not path.stem.startswith("_")
    ]


def find(name: str) -> Recipe:
    """The recipe of that name; dashes stand for underscores.

    Raises:
        ReprkitError: there is none.
    """
    known = {recipe.name: recipe for recipe in recipes()}
    key = name.replace("-", "_")
    if key not in known:
        raise ReprkitError(
            f"no recipe named {name!r}.{nearest(key, known)}\n"
            f"  known: {', '.join(known) or f'none ({folder()} has no recipes)'}\n"
            "  give a recipe of your own by its file: reprkit run ./mine.py"
        )
    return known[key]


def names() -> list[str]:
    """Completions of NAME for the shell."""
    return [recipe.name for recipe in recipes()]


command = typer.Typer(add_completion=False)


@command.callback(invoke_without_command=True)
def listing(
    ctx: typer.Context,
    json: JsonOption = False,
) -> None:
    """List the recipes, or copy one to a file of your own.

    A recipe is one file with data, parts, training loop and evaluation.  Run one: reprkit run NAME.
    """
    if ctx.invoked_subcommand:
        return
    found = recipes()
    if json:
        emit_json([{"name": r.name, "summary": r.summary, "path": str(r.path), "doc": r.doc} for r in found])
    elif found:
        emit_table(("recipe", "summary"), [(recipe.name, recipe.summary) for recipe in found])
    else:
        print(f"{folder()} has no recipes")


@command.command()
def copy(
    name: Annotated[str, typer.Argument(help="The recipe.", autocompletion=names)],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Target; ./NAME.py by default.", show_default=False)
    ] = None,
) -> None:
    """Copy a recipe to a file of your own; an existing file is not overwritten."""
    recipe = find(name)
    target = to or Path(recipe.path.name)
    if target.is_dir():
        target = target / recipe.path.name
    if target.exists():
        raise ReprkitError(f"{target} exists already; nothing was written. Give another target: --to FILE")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, recipe.path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReprkitError(f"cannot write {target}: {error}") from error
    print(f"{target}\n  run it: reprkit run {target if target.is_absolute() else f'./{target}'}")
