"""The ``reprkit`` command line: each command is a small module of ``reprkit.commands``, imported when called.

Exit codes: 0 done, 1 the work failed, 2 wrong usage.  Plugins add commands through ``reprkit_commands``; they
cannot take the name of a built-in one, so diagnosis works whatever is installed.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from reprkit.errors import PartImportError, ReprkitError, UnknownPartError, nearest

if TYPE_CHECKING:
    from reprkit.registry.lookup import FoundPart

# name -> (module with a function ``command``, the line that ``reprkit --help`` shows)
COMMANDS = {
    "plugins": (
        "reprkit.commands.plugins",
        "List the plugins: version, status, what each offers, what went wrong",
    ),
    "list": ("reprkit.commands.list", "List the parts that can be named in a recipe"),
    "show": ("reprkit.commands.show", "Show one part: its arguments, paper and provider"),
    "inspect": (
        "reprkit.commands.inspect",
        "Inspect a checkpoint: parts, widths, parameters, metrics, plugins",
    ),
    "probe": (
        "reprkit.commands.probe",
        "Probe a saved model: linear classifier and k-NN on its representation",
    ),
    "finetune": ("reprkit.commands.finetune", "Fine-tune a saved model with labels"),
    "new": ("reprkit.commands.new", "Write a new plugin: a working part, its tests and a README"),
    "check": ("reprkit.commands.check", "Check the parts of an installed plugin against the conformance kit"),
    "recipes": ("reprkit.commands.recipes", "List the recipes, or copy one to make it yours"),
    "run": ("reprkit.commands.run", "Run a recipe, by name or file, with its own flags"),
    "runs": ("reprkit.commands.runs", "List the runs below a folder: state, steps, loss, how to go on"),
    "report": ("reprkit.commands.report", "Make a run's page again from its folder, also while it trains"),
}


class Deferred(TyperCommand):
    """A command known by name and summary; the real one is imported when called or asked for its own help."""

    def __init__(self, name: str, summary: str, module: str = "", found: FoundPart | None = None) -> None:
        super().__init__(name, help=summary, short_help=summary)
        self._module, self._found = module, found

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Hand over to the real command."""
        return self.real().make_context(info_name, args, *rest, **extra)

    def real(self) -> Any:
        """The command itself, imported now.

        Raises:
            PartImportError: a plugin's command cannot be imported, or is not one.
        """
        if self._found is None:
            return _as_command(importlib.import_module(self._module).command, self.name or "")
        from reprkit.registry.registry import default_registry

        target = default_registry().load("command", self._found.qualified)
        if not (isinstance(target, typer.Typer) or inspect.isroutine(target)):
            raise PartImportError(
                f"{self._found} is announced as {self._found.spec.build}, of type {type(target).__name__}\n"
                f"  a command is a function or a typer.Typer; the fault is in {self._found.distribution}"
            )
        return _as_command(target, self.name or "")


class Commands(TyperGroup):
    """The built-in commands, found without asking any plugin, then what plugins contribute."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command; those of plugins by short name where that is free."""
        return [*COMMANDS, *_contributed()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, not yet imported; None where there is none."""
        if cmd_name in COMMANDS:
            module, summary = COMMANDS[cmd_name]
            return Deferred(cmd_name, summary, module=module)
        found = _contributed().get(cmd_name)
        if found is None and "/" in cmd_name:
            found = next((each for each in _contributed().values() if each.qualified == cmd_name), None)
        return Deferred(cmd_name, found.spec.summary, found=found) if found else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As usual, and an unknown name says what is known and which plugin may be missing."""
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing and not args[0].startswith("-"):
            ctx.fail(_no_command(args[0]))
        return (args[0], command, args[1:]) if command else super().resolve_command(ctx, args)


def _contributed() -> dict[str, FoundPart]:
    """Commands of plugins by what is typed: the short name, or the qualified one where it is taken."""
    from reprkit.registry.registry import default_registry

    found = default_registry().specs("command")
    names = [each.name for each in found] + list(COMMANDS)
    return {each.name if names.count(each.name) == 1 else each.qualified: each for each in found}


def _no_command(name: str) -> str:
    from reprkit.registry.registry import default_registry

    known = [*COMMANDS, *_contributed()]
    try:
        default_registry().find("command", name)
    except UnknownPartError as error:
        # The registry knows only what plugins contribute; keep what it says of those at fault.
        rest = [
            line
            for line in str(error).splitlines()[1:]
            if not line.startswith(("  known:", "  see: reprkit list"))
        ]
    except ReprkitError:
        rest = []
    return "\n".join(
        [f"no command named {name!r}.{nearest(name, known)}", f"  known: {', '.join(known)}", *rest]
    )


def _as_command(target: Any, name: str) -> Any:
    app = target
    if not isinstance(target, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=_markup())
        app.command(name)(target)
    elif not sys.stdout.isatty():
        app.rich_markup_mode = None
    command = typer.main.get_command(app)
    command.params = [
        each for each in command.params if each.name not in ("install_completion", "show_completion")
    ]
    return command


def _markup() -> Any:
    return "rich" if sys.stdout.isatty() else None  # rich costs 40 ms, and wraps what a pipe should get whole


def _version(asked: bool) -> None:
    if asked:
        from reprkit.registry.discovery import own_version

        typer.echo(f"reprkit {own_version()}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    """Representation learning from four swappable parts: encoder, latent, decoder, objective."""


def app() -> typer.Typer:
    """The command line as a typer application."""
    made = typer.Typer(
        cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=_markup()
    )
    made.callback()(_root)
    return made


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with 0 (done), 1 (the work failed) or 2 (wrong usage)."""
    try:
        typer.main.get_command(app())(args=args, prog_name="reprkit")
    except ReprkitError as error:
        if os.environ.get("REPRKIT_PLUGIN_ERRORS") == "raise":
            raise
        from reprkit.commands.output import printable

        lines = "\n".join([f"error: {error}", *getattr(error, "__notes__", ())]).split("\n")
        print("\n".join(map(printable, lines)), file=sys.stderr)
        sys.exit(1)
