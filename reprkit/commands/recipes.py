"""``reprkit recipes``: the recipes that come with reprkit; ``reprkit recipes copy NAME`` makes one yours."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.output import emit_json, emit_table
from reprkit.errors import ReprkitError, nearest
from reprkit.utils.atomic_files import write_text


@dataclass(frozen=True)
class Recipe:
    """One file, a system of its own."""

    name: str
    path: Path

    @property
    def doc(self) -> str:
        """Its docstring; empty where it has none or cannot be read."""
        try:
            return ast.get_docstring(ast.parse(self.path.read_bytes())) or ""
        except (OSError, SyntaxError, ValueError):
            return ""

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return self.doc.partition("\n")[0]


def folder() -> Path:
    """Where the recipes are: inside the package when it was installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "_recipes"
    return shipped if shipped.is_dir() else package.parent / "recipes"


def recipes() -> list[Recipe]:
    """All of them, by name."""
    return [
        Recipe(path.stem, path) for path in sorted(folder().glob("*.py")) if not path.stem.startswith("_")
    ]


def find(name: str) -> Recipe:
    """The recipe of that name; dashes stand for underscores.

    Raises:
        ReprkitError: there is none.
    """
    known = {each.name: each for each in recipes()}
    wanted = name.replace("-", "_")
    if wanted not in known:
        raise ReprkitError(
            f"no recipe named {name!r}.{nearest(wanted, known)}\n"
            f"  known: {', '.join(known) or f'none ({folder()} holds no recipes)'}\n"
            "  a recipe of your own is named by its file: reprkit run ./mine.py"
        )
    return known[wanted]


def names() -> list[str]:
    """What can stand for NAME; for shell completion."""
    return [each.name for each in recipes()]


command = typer.Typer(add_completion=False)


@command.callback(invoke_without_command=True)
def listing(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the recipes, or copy one to make it yours.

    A recipe is one file: data, parts, the training loop and what it measures.  Run one: reprkit run NAME.
    """
    if ctx.invoked_subcommand:
        return
    found = recipes()
    if json:
        emit_json([{"name": e.name, "summary": e.summary, "path": str(e.path), "doc": e.doc} for e in found])
    elif found:
        emit_table(("recipe", "summary"), [(each.name, each.summary) for each in found])
    else:
        print(f"{folder()} holds no recipes")


@command.command()
def copy(
    name: Annotated[str, typer.Argument(help="The recipe.", autocompletion=names)],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where; ./NAME.py when not given.", show_default=False)
    ] = None,
) -> None:
    """Copy a recipe to a file of your own; an existing file is not overwritten."""
    recipe = find(name)
    target = to or Path(recipe.path.name)
    if target.is_dir():
        target = target / recipe.path.name
    if target.exists():
        raise ReprkitError(f"{target} exists already; nothing was written. Say where: --to FILE")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, recipe.path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReprkitError(f"cannot write {target}: {error}") from error
    print(f"{target}\n  run it: reprkit run {target if target.is_absolute() else f'./{target}'}")
