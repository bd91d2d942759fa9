"""``reprkit report DIR``: write a run's page again from its folder, also while it trains.  Does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reprkit.errors import TrainingError, nearest
from reprkit.runs.reader import FILES, find_runs, is_run


def command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Runs, or comparisons of runs.")],
) -> None:
    """Write a run's page again from its folder, also while it trains.

    Writes DIR/report.html of each; the other files of the run are only read. One page of several runs: reprkit compare.
    """
    for folder in folders:
        _check(folder)
    from reprkit.reporting.writer import report

    for folder in folders:
        print(report(folder))


def _check(folder: Path) -> None:
    if not folder.is_dir():
        siblings = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise TrainingError(f"there is no folder {folder}.{nearest(folder.name, siblings)}")
    if not is_run(folder):
        runs = [str(run) for run in find_runs(folder)][:5]
        below = f"\n  runs below it: {', '.join(runs)}" if runs else "\n  to list runs: reprkit runs FOLDER"
        raise TrainingError(f"{folder} is not a run: it has none of {', '.join(FILES)}{below}")
