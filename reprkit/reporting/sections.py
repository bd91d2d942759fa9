"""The sections of a report, each built from the available results; empty sections are left out or hold a note."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reprkit.reporting.field_figures import exhibit, traversal_figures
from reprkit.reporting.figures import DASHED, Curves
from reprkit.reporting.page import Block, Legend, Note, Section, Table, Tiles
from reprkit.reporting.run_history import RunHistory
from reprkit.runs.filenames import METRICS
from reprkit.runs.metric_direction import better_direction
from reprkit.runs.metrics import flatten_metrics
from reprkit.runs.results import Results

Runs = Mapping[str, Results]

# The default columns of a comparison, if they were measured: path -> heading.
HEADLINES = {
    "reconstruction.error": "reconstruction error",
    "reconstruction.accuracy": "symbols right",
    "reconstruction.perplexity": "perplexity",
    "reconstruction.bits": "bits an example",
    "likelihood.nll": "−log p(x), nats",
    "likelihood.bits_per_dim": "bits per dimension",
    "samples.novelty": "novelty",
    "linear-probe.accuracy": "linear probe",
    "knn.accuracy": "k-NN",
    "codebook.usage": "usage",
}
_TITLES = {"projection": "Projections", "codebook": "How the latent is used"}
_MAX_CHARTS = 12
_HIDDEN_METRICS = ("mse", "n")  # proportional to the error, and a count


def compare(
    runs: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str] | Sequence[str] | None = None
) -> Table:
    """A table with one row per run: ``print(compare({"vq": results}))`` in a terminal, ``html()`` on a page.

    Args:
        runs: name -> results (evaluator -> metric -> number).
        columns: paths such as ``"knn.accuracy"``, or path -> heading; when None, the default columns that were
            measured, or all metrics if there are none of these.
    """
    flat = {name: flatten_metrics(results) for name, results in runs.items()}
    if columns is None:
        columns = {
            path: title for path, title in HEADLINES.items() if any(path in run for run in flat.values())
        }
        if not columns:
            columns = list(dict.fromkeys(path for run in flat.values() for path in run))
    headings = dict(columns) if isinstance(columns, Mapping) else {path: path for path in columns}
    best = {title: better_direction(path) for path, title in headings.items()}
    rows = {name: [values.get(path) for path in headings] for name, values in flat.items()}
    return Table(list(headings.values()), rows, best={k: v for k, v in best.items() if v is not None})


def results_section(
    runs: Runs, baselines: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str] | Sequence[str] | None
) -> Section:
    """The metrics: tiles for one run, a table with one row per run for several, and a full list."""
    measured = {name: results for name, results in runs.items() if results}
    if not measured:
        return Section("Results", [Note("Nothing was measured: give report(out, rk.evaluate(...)).")])
    blocks: list[Block] = []
    compared = {**measured, **baselines}
    if len(compared) > 1:
        blocks.append(compare(compared, columns))
    else:
        flat = flatten_metrics(next(iter(measured.values())))
        headlines = {title: flat[path] for path, title in HEADLINES.items() if path in flat}
        if headlines:
            blocks.append(Tiles(headlines))
    blocks.append(_all_metrics(compared))
    return Section("Results", blocks)


def _all_metrics(runs: Mapping[str, Mapping[str, Any]]) -> Table:
    """A table of all metrics, one per row."""
    flat = {name: flatten_metrics(results) for name, results in runs.items()}
    paths = list(dict.fromkeys(path for run in flat.values() for path in run))
    names = [name or "value" for name in flat]
    return Table(
        names,
        {path: [run.get(path) for run in flat.values()] for path in paths},
        corner="metric",
        folded=True,
    )


def warnings_section(histories: Mapping[str, RunHistory]) -> Section | None:
    """The warnings during training, such as a collapsed latent or an exploding norm."""
    notes = []
    for name, history in histories.items():
        for warning in history.record.get("warnings") or ():
            step = f"step {warning.get('step')}"
            where = " ".join(part for part in (name, warning.get("stage"), step) if part)
            notes.append(Note(f"{where}: {warning.get('text')}"))
    return Section("Warnings", notes) if notes else None


def curves_section(
    histories: Mapping[str, RunHistory], groups: Mapping[str, str] | None = None
) -> Section | None:
    """A small chart for each logged number, with a line per run; dashed lines for evaluations.

    Args:
        histories: by run.
        groups: run -> the group whose color its lines have; by default each run has its own.
    """
    if not histories:
        return None
    groups = groups or {name: name for name in histories}
    charts = _make_charts(histories, groups)
    blocks: list[Block] = [*list(charts.values())[:_MAX_CHARTS]]
    notes = list(dict.fromkeys(note for history in histories.values() for note in history.notes))
    if len(charts) > _MAX_CHARTS:
        notes.append(f"More series are in {METRICS}: {', '.join(list(charts)[_MAX_CHARTS:])}.")
    if len(histories) > 1 and blocks:
        blocks.insert(0, Legend(list(dict.fromkeys(groups.values()))))
    dashed = any(color >= DASHED for chart in charts.values() for color in chart.colours or ())
    text = "Solid: training batches. Dashed: evaluations during training." if dashed else ""
    return Section("Training", [*blocks, *map(Note, notes)], text)


def _make_charts(histories: Mapping[str, RunHistory], groups: Mapping[str, str]) -> dict[str, Curves]:
    """One chart per number; ``metrics.error`` and ``results.reconstruction.error`` share one."""
    names = sorted(
        {name: None for history in histories.values() for name in history.curves}, key=_series_order
    )
    colors = {group: index for index, group in enumerate(dict.fromkeys(groups.values()))}
    charts: dict[str, Curves] = {}
    for name in names:
        head, title = name.partition(".")[0], _chart_title(name, names)
        for label, history in histories.items():
            if name not in history.curves or (name == "lr" and _is_constant(history.curves[name])):
                continue
            log = False if name == "lr" else None
            empty = Curves(title=title, lines={}, xlabel="step", log=log, legend=False, colours=[])
            chart = charts.setdefault(title, empty)
            chart.lines = {**chart.lines, f"{label} {name}": history.curves[name]}
            chart.colours = [
                *(chart.colours or ()),
                colors[groups[label]] + (DASHED if head == "results" else 0),
            ]
    return {
        title: chart for title, chart in charts.items() if title.rpartition(" ")[2] not in _HIDDEN_METRICS
    }


def _chart_title(name: str, names: Sequence[str]) -> str:
    """A chart's title; an evaluated metric has the training metric's title if that was logged, too."""
    head, _, rest = name.partition(".")
    if head in ("terms", "metrics"):
        return rest
    if head == "results":
        metric = rest.partition(".")[2]
        in_training = any(f"{kind}.{metric}" in names for kind in ("terms", "metrics"))
        return metric if in_training else rest.replace(".", " ").replace("_", " ")
    return {"loss": "total loss", "lr": "learning rate"}.get(name, name)


def _is_constant(curve: tuple[Sequence[float], Sequence[float]]) -> bool:
    return len(set(curve[1])) == 1


def _series_order(name: str) -> int:
    """Sort key: the loss first, then its terms, metrics, evaluations, and the learning rate last."""
    order = ("loss", "terms", "metrics", "results", "lr")
    head = name.partition(".")[0]
    return order.index(head) if head in order else len(order)


def gallery_sections(runs: Runs) -> list[Section]:
    """The sections with inputs and outputs, samples, and traversals."""
    galleries = {
        " ".join(text for text in (name, output) if text): gallery
        for name, results in runs.items()
        for output, gallery in results.galleries.items()
    }
    if not galleries:
        reason = (
            "No pictures: these results have none (no decoder, examples=0, or read back from results.json)."
        )
        return [Section("Inputs and reconstructions", [Note(reason)])] if any(runs.values()) else []
    sections: list[Section] = []
    first = next(iter(galleries.values()))
    same_inputs = {
        name: gallery
        for name, gallery in galleries.items()
        if gallery.field == first.field and np.array_equal(gallery.inputs, first.inputs)
    }
    outputs = {name or "reconstruction": gallery.outputs for name, gallery in same_inputs.items()}
    figures = exhibit("", first.field, {"input": first.inputs, **outputs}, lengths=first.lengths)
    for name, gallery in galleries.items():
        if name not in same_inputs:
            rows = {"input": gallery.inputs, "reconstruction": gallery.outputs}
            figures += exhibit(name, gallery.field, rows, lengths=gallery.lengths)
    sections.append(Section("Inputs and reconstructions", figures))
    sampled = {name: gallery for name, gallery in galleries.items() if gallery.samples is not None}
    if sampled:
        figures = []
        for field in dict.fromkeys(gallery.field for gallery in sampled.values()):
            samples = {
                name or "sample": g.samples
                for name, g in sampled.items()
                if g.samples is not None and g.field == field
            }
            figures += exhibit("", field, samples)
        sections.append(Section("Samples from the prior", figures))
    traversals = [
        figure for name, gallery in galleries.items() for figure in traversal_figures(gallery, name)
    ]
    if traversals:
        text = "One code at a time, moved along one dimension from −2 to 2 standard deviations."
        sections.append(Section("Latent traversals", traversals, text))
    runs_of_note: dict[str, list[str]] = {}
    for name, gallery in galleries.items():
        for note in gallery.notes:
            runs_of_note.setdefault(note, []).append(name)
    notes = [
        Note(f"{', '.join(names)}: {note}" if names != [""] else note) for note, names in runs_of_note.items()
    ]
    sections[-1].blocks = [*sections[-1].blocks, *notes]
    return sections


def figure_sections(runs: Runs) -> list[Section]:
    """The evaluators' figures: one section for one run, a section per evaluator for several."""
    names = list(dict.fromkeys(name for results in runs.values() for name in results.figures))
    names.sort(key=lambda name: list(_TITLES).index(name) if name in _TITLES else len(_TITLES))
    if len(runs) == 1:
        figures = [figure for name in names for figure in next(iter(runs.values())).figures[name].values()]
        return [Section("The representation", figures)] if figures else []
    sections = []
    for name in names:
        kinds = dict.fromkeys(kind for results in runs.values() for kind in results.figures.get(name, {}))
        figures = [
            _with_run_name(results.figures[name][kind], run)
            for kind in kinds  # the t-SNE of all runs side by side, then the next kind
            for run, results in runs.items()
            if kind in results.figures.get(name, {})
            and not getattr(results.figures[name][kind], "detail", False)
        ]
        if figures:
            sections.append(Section(_TITLES.get(name, name.capitalize()), figures))
    return sections


def _with_run_name(figure: Any, run: str) -> Any:
    """A copy of the figure with the run's name as the title, and its own title before its caption."""
    copied = copy.copy(figure)
    copied.title, copied.caption = run, ". ".join(text for text in (figure.title, figure.caption) if text)
    return copied
