"""Many runs on one page and in one table: means over seeds, cost, curves over each other, galleries side by side."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reprkit.errors import TrainingError
from reprkit.reporting import provenance
from reprkit.reporting import sections as parts
from reprkit.reporting.page import Note, Page, Section, Table
from reprkit.reporting.page_store import read_page_store
from reprkit.reporting.run_history import (
    RunHistory,
    average_histories,
    format_duration,
    read_or_note,
    read_run_history,
)
from reprkit.runs.comparison import ComparedRun, RunGroup
from reprkit.runs.results import Results
from reprkit.runs.spread import Spread
from reprkit.utils.atomic_files import explain_os_error, require_absent


def comparison_table(
    groups: Sequence[RunGroup], columns: Mapping[str, str] | Sequence[str] | None = None
) -> Table:
    """Return a table with a row for each group: metrics, as mean ± standard deviation over seeds, then cost.

    Args:
        groups: from ``reprkit.runs.comparison.read_groups``.
        columns: metrics by path, or path -> heading; by default those of the runs' own pages, else the usual ones that were
            measured.
    """
    table = parts.compare(_results_by_name(groups), columns or _own_columns(groups) or None)
    cost = {
        group.name: [
            len(group.seeds) or None,
            None if group.seconds is None else format_duration(group.seconds),
            group.parameters,
            ", ".join(group.states) or None,
        ]
        for group in groups
    }
    used = [index for index in range(4) if any(row[index] is not None for row in cost.values())]
    return replace(
        table,
        columns=[*table.columns, *(("seeds", "time", "parameters", "state")[index] for index in used)],
        rows={name: [*row, *(cost[name][index] for index in used)] for name, row in table.rows.items()},
    )


def comparison_page(groups: Sequence[RunGroup], title: str = "Comparison of runs") -> Page:
    """Return the page: the table, all metrics, curves over each other (means over seeds), the first seed's pictures and figures."""
    notes: list[str] = []
    every: dict[str, Results] = {}
    members: dict[str, list[str]] = {}
    histories: dict[str, RunHistory] = {}
    curves: dict[str, RunHistory] = {}
    drawn: set[Path] = set()
    for group in groups:
        own = []
        for run in group.runs:
            label = group.name if len(group.runs) == 1 else f"{group.name}, seed {run.seed}"
            every[label] = _results(run, notes)
            members.setdefault(group.name, []).append(label)
            if run.run is not None and run.folder not in drawn:  # several rows may be of one run
                drawn.add(run.folder)
                histories[label] = read_run_history(run.folder)
                own.append(histories[label])
        if own:
            curves[group.name] = own[0] if len(own) == 1 else average_histories(own)
    shown = {group.name: every[members[group.name][0]] for group in groups if group.runs[0].run is not None}
    several = {name: labels for name, labels in members.items() if len(labels) > 1}
    results = parts.results_section(every, {}, _own_columns(groups) or None, several)
    results.blocks = [
        comparison_table(groups),
        *list(results.blocks)[1 if len(groups) > 1 or several else 0 :],
    ]
    return Page(
        title=title,
        sections=[
            results,
            *_present(parts.warnings_section(histories)),
            *parts.curves_sections(curves),
            *(parts.gallery_sections(shown) if shown else []),
            *parts.figure_sections(shown),
            *_present(provenance.parts_section(shown), provenance.data_section(shown, histories)),
            provenance.run_section(histories, {}),
            *([Section("Left out", [Note(note) for note in notes])] if notes else []),
        ],
        made=f"Made by reprkit, {time.strftime('%Y-%m-%d %H:%M')}.",
    )


def _results_by_name(groups: Sequence[RunGroup]) -> dict[str, Any]:
    """Return what ``compare`` takes: results by name, or a list of those of several seeds."""
    return {
        group.name: group.runs[0].results if len(group.runs) == 1 else [run.results for run in group.runs]
        for group in groups
    }


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
    require_absent(page, overwrite, TrainingError)
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
            "seconds": None if group.seconds is None else round(group.seconds, 3),
            "parameters": group.parameters,
            "unfinished": group.states,
        }
        for group in groups
    ]


def _spread_to_json(value: Spread) -> dict[str, Any]:
    return {
        "mean": value.mean if math.isfinite(value.mean) else None,
        "deviation": value.deviation if math.isfinite(value.deviation) else None,
        "count": value.count,
    }


def _own_columns(groups: Sequence[RunGroup]) -> dict[str, str]:
    """Return the columns that the pages of the runs, or of the comparisons that hold them, were made with."""
    found: dict[str, str] = {}
    for folder in dict.fromkeys(run.folder for group in groups for run in group.runs):
        stored = read_or_note(lambda folder=folder: read_page_store(folder), [])  # type: ignore[misc]
        own = None if stored is None else stored.columns
        found |= dict(own) if isinstance(own, Mapping) else {path: path for path in own or ()}
    return found


def _results(run: ComparedRun, notes: list[str]) -> Results:
    """Return a run's results with the figures and pictures of its own page."""
    results = Results(run.results)
    stored = read_or_note(lambda: read_page_store(run.folder), notes)
    if stored is not None and run.row in stored.runs:
        own = stored.runs[run.row]
        results.figures, results.galleries, results.about = own.figures, own.galleries, own.about
    results.folder = run.folder
    return results


def _present(*sections: Section | None) -> list[Section]:
    return [section for section in sections if section is not None]
