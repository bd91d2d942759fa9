"""``reprkit report DIR``: a run's page, made again from its folder, also while it trains.  Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reprkit.errors import TrainingError, nearest
from reprkit.runs.reader import FILES, find_runs, is_run


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Of a run, or of a comparison of runs.")],
) -> None:
    """Make a run's page again from its folder, also while it trains.

    Writes DIR/report.html; the run's own files are only read.
    """
    if not folder.is_dir():
        beside = [each.name for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise TrainingError(f"there is no folder {folder}.{nearest(folder.name, beside)}")
    if not is_run(folder):
        runs = [str(each) for each in find_runs(folder)][:5]
        below = f"\n  runs below it: {', '.join(runs)}" if runs else "\n  reprkit runs FOLDER lists the runs"
        raise TrainingError(f"{folder} is not a run: it has none of {', '.join(FILES)}{below}")
    from reprkit.reporting.writer import report

    print(report(folder))
