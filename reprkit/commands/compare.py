"""``reprkit compare DIR...``: one table and one page for many runs.  Does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.options import JsonOption, OverwriteOption
from reprkit.commands.output import emit_json, printable
from reprkit.errors import ReprkitError, nearest


def command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Runs, or folders with runs below them.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.html", help="Also write one page.", show_default=False),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="A metric to show, such as knn.accuracy; repeatable.", show_default=False),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="Sort by a metric, seconds or parameters; -METRIC descends.", show_default=False),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Compare runs in one table and on one page, with means over seeds.

    The table has results and cost, the page also curves, pictures and figures.
    Runs that differ in the seed alone become one row, which is named by what differs from the others.
    """
    from reprkit.reporting.comparison import comparison_table, to_json, write_comparison
    from reprkit.runs.comparison import read_groups, sort_groups

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise ReprkitError(f"--out {out}: a page is written to .html")
    groups = read_groups(folders)
    measured = list(dict.fromkeys(path for group in groups for path in group.metrics))
    for path in column or ():
        if path not in measured:
            raise ReprkitError(
                f"no metric {path!r} in these runs.{nearest(path, measured)}\n  measured: {', '.join(measured) or 'nothing'}"
            )
    if sort is not None:
        groups = sort_groups(groups, sort)
    page = None if out is None else write_comparison(groups, out, overwrite=overwrite)
    if json:
        emit_json({"groups": to_json(groups), "page": None if page is None else str(page)})
        return
    print("\n".join(map(printable, str(comparison_table(groups, column)).split("\n"))))
    print()
    print(
        printable(f"page: {page}") if page else "for one page with curves and pictures: --out comparison.html"
    )
