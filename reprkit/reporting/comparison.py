"""Many runs on one page and in one table: means over seeds, cost, curves over each other, galleries side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprkit.errors import TrainingError
from reprkit.reporting import provenance
from reprkit.reporting import sections as parts
from reprkit.reporting.page import Note, Page, Section, Table
from reprkit.reporting.page_store import read_page_store
from reprkit.reporting.run_history import format_duration, read_or_note, read_run_history
from reprkit.runs.comparison import ComparedRun, RunGroup
from reprkit.runs.metric_direction import better_direction
from reprkit.runs.results import Results
from reprkit.runs.spread import Spread
from reprkit.utils.atomic_files import explain_os_error

_MAX_COLUMNS = 8  # of metrics, where none of the usual ones was measured


def comparison_table(
    groups: Sequence[RunGroup], columns: Mapping[str, str] | Sequence[str] | None = None
) -> Table:
    """Return a table with a row for each group: metrics, as mean ± standard deviation over seeds, then cost.

    Args:
        groups: from ``reprkit.runs.comparison.read_groups``.
        columns: metrics by path, or path -> heading; by default those of the runs' own pages, else the usual ones that were
            measured, else the first eight.
    """
    metrics = {group.name: group.metrics for group in groups}
    columns = columns or _own_columns(groups)
    if not columns:
        measured = list(dict.fromkeys(path for values in metrics.values() for path in values))
        headings = {path: title for path, title in parts.HEADLINES.items() if path in measured}
        headings = headings or {path: path for path in measured[:_MAX_COLUMNS]}
    else:
        headings = dict(columns) if isinstance(columns, Mapping) else {path: path for path in columns}
    best = {title: better_direction(path) for path, title in headings.items()}
    cost = ["seeds", "time", "parameters", "state"]
    rows = {
        group.name: [
            *(metrics[group.name].get(path) for path in headings),
            len(group.seeds) or None,
            None if group.seconds is None else format_duration(float(group.seconds)),
            group.parameters,
            ", ".join(group.states) or None,
        ]
        for group in groups
    }
    names = [*headings.values(), *cost]
    used = [index for index in range(len(names)) if any(row[index] is not None for row in rows.values())]
    several = any(isinstance(value, Spread) for values in metrics.values() for value in values.values())
    return Table(
        [names[index] for index in used],
        {name: [row[index] for index in used] for name, row in rows.items()},
        best={name: end for name, end in best.items() if end is not None},
        caption="Mean ± standard deviation over seeds." if several else "",
    )


@dataclass(frozen=True)
class _Line:
    """A run's curves: the group whose color they have, and the folder, which several rows may share."""

    group: str
    folder: Path


def comparison_page(groups: Sequence[RunGroup], title: str = "Comparison of runs") -> Page:
    """Return the page: the table, all metrics, curves with a color for each group, and the first seed's pictures and figures."""
    notes: list[str] = []
    histories, colors = {}, {}
    for group in groups:
        for run in group.runs:
            if run.run is not None and all(run.folder != known.folder for known in colors.values()):
                histories[label := _label(group, run)] = read_run_history(run.folder)
                colors[label] = _Line(group.name, run.folder)
    shown = {group.name: _results(group.runs[0], notes) for group in groups if group.runs[0].run is not None}
    return Page(
        title=title,
        sections=[
            Section("Results", [comparison_table(groups), _all_metrics(groups)]),
            *_present(
                parts.warnings_section(histories),
                parts.curves_section(histories, {label: line.group for label, line in colors.items()}),
            ),
            *(parts.gallery_sections(shown) if shown else []),
            *parts.figure_sections(shown),
            *_present(provenance.parts_section(shown), provenance.data_section(shown, histories)),
            provenance.run_section(histories, {}),
            *([Section("Left out", [Note(note) for note in notes])] if notes else []),
        ],
        made=f"Made by reprkit, {time.strftime('%Y-%m-%d %H:%M')}.",
    )


def write_comparison(
    groups: Sequence[RunGroup],
    path: str | os.PathLike[str],
    *,
    title: str = "Comparison of runs",
    overwrite: bool = False,
) -> Path:
    """Write the page of ``comparison_page``.

    Raises:
        TrainingError: the file exists and is not to be replaced, or it cannot be written.
    """
    page = Path(path)
    if page.exists() and not overwrite:
        raise TrainingError(
            f"{page} exists already; nothing was written. To replace it: overwrite=True (--overwrite)"
        )
    try:
        return comparison_page(groups, title).write(page)
    except OSError as error:
        raise TrainingError(f"cannot write {page}: {explain_os_error(error)}") from error


def to_json(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """Return the groups as plain JSON: settings, seeds, folders, each metric with mean, deviation and count, and cost."""
    return [
        {
            "name": group.name,
            "settings": dict(group.runs[0].settings),
            "seeds": group.seeds,
            "runs": [str(run.folder) for run in group.runs],
            "metrics": {path: _spread_to_json(value) for path, value in group.metrics.items()},
            "seconds": None if group.seconds is None else round(float(group.seconds), 3),
            "parameters": group.parameters,
            "unfinished": group.states,
        }
        for group in groups
    ]


def _spread_to_json(value: float) -> dict[str, Any]:
    finite = value == value
    several = isinstance(value, Spread)
    return {
        "mean": float(value) if finite else None,
        "deviation": value.deviation if isinstance(value, Spread) and finite else None,
        "count": value.count if several and isinstance(value, Spread) else 1,
    }


def _own_columns(groups: Sequence[RunGroup]) -> dict[str, str]:
    """Return the columns that the pages of the runs, or of the comparisons that hold them, were made with."""
    found: dict[str, str] = {}
    for folder in dict.fromkeys(run.folder for group in groups for run in group.runs):
        stored = read_or_note(lambda folder=folder: read_page_store(folder), [])  # type: ignore[misc]
        own = None if stored is None else stored.columns
        found |= dict(own) if isinstance(own, Mapping) else {path: path for path in own or ()}
    return found


def _all_metrics(groups: Sequence[RunGroup]) -> Table:
    metrics = {group.name: group.metrics for group in groups}
    paths = list(dict.fromkeys(path for values in metrics.values() for path in values))
    rows = {path: [values.get(path) for values in metrics.values()] for path in paths}
    return Table(list(metrics), rows, corner="metric", folded=True)


def _results(run: ComparedRun, notes: list[str]) -> Results:
    """Return a run's results with the figures and pictures of its own page."""
    results = Results(run.results)
    stored = read_or_note(lambda: read_page_store(run.folder), notes)
    if stored is not None and run.row in stored.runs:
        own = stored.runs[run.row]
        results.figures, results.galleries, results.about = own.figures, own.galleries, own.about
    results.folder = run.folder
    return results


def _label(group: RunGroup, run: ComparedRun) -> str:
    return group.name if len(group.runs) == 1 else f"{group.name}, seed {run.seed}"


def _present(*sections: Section | None) -> list[Section]:
    return [section for section in sections if section is not None]
