"""``reprkit report DIR``: write a run's page again from its folder, also while it trains.  Does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or a comparison of runs.")],
) -> None:
    """Write a run's page again from its folder, also while it trains.

    Writes DIR/report.html; the other files of the run are only read.
    """
    from reprkit.reporting.writer import report

    print(report(folder))
