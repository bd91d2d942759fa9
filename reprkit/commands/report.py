"""``reprkit report DIR``: write a run's page again from its folder, also while it trains.  Does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Runs, or comparisons of runs.")],
) -> None:
    """Write a run's page again from its folder, also while it trains.

    Writes DIR/report.html of each; the other files of the run are only read. One page of several runs: reprkit compare.
    """
    from reprkit.reporting.writer import report
    from reprkit.runs.reader import require_run

    for folder in folders:
        require_run(folder)
    for folder in folders:
        print(report(folder))
