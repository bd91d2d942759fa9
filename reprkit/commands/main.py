"""The ``reprkit`` command line: each command is a small module of ``reprkit.commands``, imported when called.

Exit codes: 0 success, 1 the command failed, 2 wrong usage.  Plugins add commands through ``reprkit_commands``; they
cannot replace built-in ones, so that diagnosis works whatever is installed.
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
    "train": ("reprkit.commands.train", "Train a model from parts by name, evaluate it and write its page"),
    "compare": (
        "reprkit.commands.compare",
        "Compare runs in one table and on one page, with means over seeds",
    ),
    "inspect": (
        "reprkit.commands.inspect",
        "Inspect a checkpoint: parts, widths, parameters, metrics, plugins",
    ),
    "probe": (
        "reprkit.commands.probe",
        "Probe a saved model: linear classifier and k-NN on its representation",
    ),
    "embed": ("reprkit.commands.embed", "Write one vector per example of a data set to a file"),
    "reconstruct": (
        "reprkit.commands.reconstruct",
        "Encode and decode data with a saved model, and write the outputs",
    ),
    "sample": ("reprkit.commands.sample", "Sample new examples from a saved model"),
    "score": ("reprkit.commands.score", "Score each example: larger for unusual ones"),
    "search": ("reprkit.commands.search", "Find the examples of a data set that are nearest to a file"),
    "compress": (
        "reprkit.commands.compress",
        "Compress data to a small file by a model with a discrete latent or a codec",
    ),
    "decompress": ("reprkit.commands.decompress", "Decode a file of reprkit compress"),
    "export": ("reprkit.commands.export", "Export the encoder as a torch.export program or as ONNX"),
    "finetune": ("reprkit.commands.finetune", "Fine-tune a saved model with labels"),
    "new": ("reprkit.commands.new", "Write a new plugin: a working part, its tests and a README"),
    "check": ("reprkit.commands.check", "Check the parts of an installed plugin against the conformance kit"),
    "recipes": ("reprkit.commands.recipes", "List the recipes, or copy one to a file of your own"),
    "run": (
        "reprkit.commands.run",
        "Run a recipe by name or file, with its own flags; or make a run again",
    ),
    "runs": (
        "reprkit.commands.runs",
        "List the runs below a folder: latent, data, state, results, how to resume",
    ),
    "serve": ("reprkit.commands.serve", "Show a run's page in the browser while it trains"),
    "report": ("reprkit.commands.report", "Write a run's page again from its folder, also while it trains"),
}


class Deferred(TyperCommand):
    """A command known by name and summary; its module is imported when it is called or its help is shown."""

    def __init__(self, name: str, summary: str, module: str = "", found: FoundPart | None = None) -> None:
        super().__init__(name, help=summary, short_help=summary)
        self._module, self._found = module, found

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Make the context of the imported command."""
        return self.real().make_context(info_name, args, *rest, **extra)

    def real(self) -> Any:
        """Import the command.

        Raises:
            PartImportError: a plugin's command cannot be imported, or is no command.
        """
        if self._found is None:
            return _as_command(importlib.import_module(self._module).command, self.name or "")
        from reprkit.registry.registry import default_registry

        target = default_registry().load("command", self._found.qualified)
        if not (isinstance(target, typer.Typer) or inspect.isroutine(target)):
            raise PartImportError(
                f"{self._found} is registered as {self._found.spec.build}, of type {type(target).__name__}\n"
                f"  a command must be a function or a typer.Typer; this is an error of {self._found.distribution}"
            )
        return _as_command(target, self.name or "")


class Commands(TyperGroup):
    """The built-in commands, which are found without loading plugins, then the commands of plugins."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands; those of plugins by their short name if it is unique."""
        return [*COMMANDS, *_plugin_commands()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, not yet imported; None if there is none."""
        if cmd_name in COMMANDS:
            module, summary = COMMANDS[cmd_name]
            return Deferred(cmd_name, summary, module=module)
        found = _plugin_commands().get(cmd_name)
        if found is None and "/" in cmd_name:
            commands = _plugin_commands().values()
            found = next((command for command in commands if command.qualified == cmd_name), None)
        return Deferred(cmd_name, found.spec.summary, found=found) if found else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve as typer does; the error for an unknown name lists the known ones and plugins that failed to load."""
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing and not args[0].startswith("-"):
            ctx.fail(_unknown_command(args[0]))
        return (args[0], command, args[1:]) if command else super().resolve_command(ctx, args)


def _plugin_commands() -> dict[str, FoundPart]:
    """Commands of plugins by short name, or by qualified name if the short one is taken."""
    from reprkit.registry.registry import default_registry

    found = default_registry().specs("command")
    names = [command.name for command in found] + list(COMMANDS)
    return {
        command.name if names.count(command.name) == 1 else command.qualified: command for command in found
    }


def _unknown_command(name: str) -> str:
    from reprkit.registry.registry import default_registry

    known = [*COMMANDS, *_plugin_commands()]
    try:
        default_registry().find("command", name)
    except UnknownPartError as error:
        # The registry knows plugins' commands only; keep its lines about plugins that failed to load.
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
        param for param in command.params if param.name not in ("install_completion", "show_completion")
    ]
    return command


def _markup() -> Any:
    return (
        "rich" if sys.stdout.isatty() else None
    )  # rich takes 40 ms to import, and wraps lines, also in a pipe


def _show_version(show: bool) -> None:
    if show:
        from reprkit.registry.discovery import own_version

        typer.echo(f"reprkit {own_version()}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
    ),
) -> None:
    """Representation learning from four swappable parts: encoder, latent, decoder, objective."""


def app() -> typer.Typer:
    """The command line as a typer application."""
    application = typer.Typer(
        cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=_markup()
    )
    application.callback()(_root)
    return application


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with 0 (success), 1 (the command failed) or 2 (wrong usage)."""
    try:
        typer.main.get_command(app())(args=args, prog_name="reprkit")
    except ReprkitError as error:
        if os.environ.get("REPRKIT_PLUGIN_ERRORS") == "raise":
            raise
        from reprkit.commands.output import printable

        lines = "\n".join([f"error: {error}", *getattr(error, "__notes__", ())]).split("\n")
        print("\n".join(map(printable, lines)), file=sys.stderr)
        sys.exit(1)
