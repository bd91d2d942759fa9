"""``reprkit run --again DIR``: make a recorded run again, by the same source and arguments, in another folder."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reprkit.commands.output import printable
from reprkit.commands.recipes import recipes
from reprkit.errors import TrainingError
from reprkit.runs.filenames import RECORD, SOURCE
from reprkit.runs.metrics import format_significant
from reprkit.runs.origin import installed_packages, read_packages
from reprkit.runs.reader import StoredRun, find_runs, read_run
from reprkit.training.recipe_folder import next_folder

_COMMAND = "train"  # the command whose runs can be made again
_SHOWN = 8  # packages, or differing metrics, in a line


class Again:
    """A run that is made again.

    Args:
        folder: of the run, or the one that its recipe wrote its runs to.
        out: the folder to write to; None takes the next free number.
        trust_source: whether source that is not a recipe of this installation may be run.

    Attributes:
        path: the source to run; None for a run of ``reprkit train``.
        arguments: its command line; that of reprkit, if there is no source.
        out: the folder that it writes to.

    Raises:
        TrainingError: no such run; one whose source is not known, not to be trusted, or not what was recorded; or a script that
            takes no ``--out``, and so would write to the folder of the run.
    """

    def __init__(self, folder: Path, out: Path | None, *, trust_source: bool) -> None:
        self.run = _find_run(folder)
        assert self.run.folder is not None
        recipe = self.run.recipe
        arguments = [str(argument) for argument in recipe.get("arguments") or ()]
        self.path: Path | None = None
        if recipe.get("command") == _COMMAND and "arguments" in recipe:
            arguments = [_COMMAND, *arguments]
        elif not recipe.get("name") or not recipe.get("sha256"):
            raise TrainingError(_explain_unknown(self.run))
        else:
            _require_out(self.run, recipe, arguments)
            self.path = _find_source(self.run.folder, recipe, trust_source=trust_source)
        self.top = _top_folder(self.run.folder, recipe)
        self.out = (next_folder(self.top) if out is None else out).absolute()
        self.arguments = [*_without_folder(arguments), "--out", str(self.out)]

    def describe(self) -> list[str]:
        """Describe what is run, and what differs from then, in lines of text."""
        program = "reprkit" if self.path is None else str(self.path)
        lines = [f"running {shlex.join([program, *self.arguments])}"]
        changes = [
            str(change["setting"])
            for stage in self.run.stages.values()
            for change in stage.get("changes") or ()
        ]
        if changes:
            lines.append(
                f"the run was resumed with other settings ({', '.join(dict.fromkeys(changes))}); it is made with the last ones"
            )
        assert self.run.folder is not None
        before, now = read_packages(self.run.folder), installed_packages()
        other = [
            f"{name} {before.get(name, 'missing')} → {now.get(name, 'missing')}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        if before and other:
            more = f", and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
            lines.append(f"packages that differ: {', '.join(other[:_SHOWN])}{more}; results may differ, too")
        return [printable(line) for line in lines]

    @contextmanager
    def in_its_folder(self) -> Iterator[None]:
        """Context in which the working directory is the one that the run was started in, for relative paths of data."""
        before, home = Path.cwd(), self.run.record.get("folder")
        if home and Path(home).is_dir():
            os.chdir(home)
        try:
            yield
        finally:
            os.chdir(before)

    def compare(self) -> list[str]:
        """Say of each run whether its results equal those of the first time."""
        lines = []
        for run in find_runs(self.top):
            again = self.out / run.relative_to(self.top)
            if not (again / RECORD).is_file():
                continue
            first, second = read_run(run).metrics, read_run(again).metrics
            differing = [
                f"{name} {format_significant(first[name])} → {format_significant(second[name])}"
                for name in first.keys() & second.keys()
                if not _is_equal(first[name], second[name]) and name not in ("seconds", "data_wait")
            ]
            verdict = f"other results: {', '.join(differing[:_SHOWN])}" if differing else "equal results"
            lines.append(printable(f"{again}: {verdict}"))
        return lines


def _find_run(folder: Path) -> StoredRun:
    if not folder.is_dir():
        raise TrainingError(f"there is no folder {folder}; to list runs: reprkit runs")
    found = next(find_runs(folder), None)
    if found is None:
        raise TrainingError(f"{folder} is not a run, and there is none below it: no {RECORD}")
    run = read_run(found)
    if RECORD in run.faults:
        raise TrainingError(run.faults[RECORD])
    return run


def _explain_unknown(run: StoredRun) -> str:
    """Say why a run without recorded source cannot be made again."""
    record, started = f"{run.folder / RECORD}" if run.folder else RECORD, run.record.get("command")
    by = f"it was started by: {started}" if started else "it was made in a notebook, or by an earlier version"
    return (
        f"{record} names no source that made the run, so it cannot be made again: {by}. Runs of recipes (rk.recipe) and of "
        f"reprkit {_COMMAND} can be"
    )


def _require_out(run: StoredRun, recipe: dict[str, Any], arguments: list[str]) -> None:
    """Refuse a script that would write to the folder of the run itself."""
    if recipe.get("out"):
        return
    home, script = run.record.get("folder"), str(recipe.get("path") or recipe["name"])
    by_hand = f"python {shlex.join([script, *arguments])}"
    raise TrainingError(
        f"{run.folder} was made by {script}, which takes no --out of rk.recipe: made again, it would write to the folder of this "
        f"run. Run it yourself with another out=: {f'cd {shlex.quote(str(home))} && ' if home else ''}{by_hand}"
    )


def _find_source(folder: Path, recipe: dict[str, Any], *, trust_source: bool) -> Path:
    """Find the source with the recorded digest: a recipe of this installation, or one that is trusted."""
    digest = recipe["sha256"]
    for known in recipes():
        if known.name == recipe["name"] and _digest(known.path) == digest:
            return known.path
    kept = folder / SOURCE / Path(str(recipe.get("file") or f"{recipe['name']}.py")).name
    if not trust_source:
        raise TrainingError(
            f"{folder} was made by {recipe['name']}, which is not a recipe of this installation: read {kept}, and give "
            "--trust-source to run it"
        )
    for path in (Path(str(recipe.get("path") or kept)), kept):  # the former has its modules beside it
        if path.is_file() and _digest(path) == digest:
            return path
    raise TrainingError(
        f"the source of {folder} is gone, or was changed: {kept} is not what {RECORD} describes"
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _top_folder(folder: Path, recipe: dict[str, Any]) -> Path:
    """Return the folder that the recipe was given: the run's own, or one above it."""
    name = Path(str(recipe.get("out") or "")).name
    whole = folder.resolve()
    return next((path for path in (whole, *whole.parents) if path.name == name), whole)


def _without_folder(arguments: list[str]) -> list[str]:
    """Remove the flags that say where to write, and what to do with what is there."""
    kept, skip = [], False
    for argument in arguments:
        if skip or argument == "--out":
            skip = not skip
        elif not re.fullmatch(r"--out=.*|--(no-)?(resume|overwrite)", argument, flags=re.DOTALL):
            kept.append(argument)
    return kept


def _is_equal(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def print_lines(lines: list[str]) -> None:
    """Print on stderr, since stdout is the recipe's."""
    for line in lines:
        print(line, file=sys.stderr)
