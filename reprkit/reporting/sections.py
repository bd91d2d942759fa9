"""The sections of a report, each built from the available results; empty sections are left out or hold a note."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from reprkit.reporting.field_figures import exhibit, traversal_figures
from reprkit.reporting.figures import DASHED, Bars, Curves
from reprkit.reporting.page import Block, Legend, Note, Section, Table, Tiles
from reprkit.reporting.run_history import RunHistory
from reprkit.runs.filenames import METRICS
from reprkit.runs.metric_direction import better_direction
from reprkit.runs.metric_units import unit_of
from reprkit.runs.metrics import flatten_metrics
from reprkit.runs.results import Results
from reprkit.runs.spread import Spread, spread_metrics, spread_of

Runs = Mapping[str, Results]

# The default columns of a comparison, if they were measured: path -> heading.
HEADLINES = {
    "reconstruction.error": "reconstruction error",
    "reconstruction.accuracy": "symbols right",
    "reconstruction.perplexity": "perplexity",
    "reconstruction.bits": "rate",
    "likelihood.nll": "−log p(x)",
    "likelihood.bits_per_dim": "−log p(x) per dimension",
    "samples.novelty": "novelty",
    "linear-probe.accuracy": "linear probe",
    "knn.accuracy": "k-NN",
    "codebook.usage": "usage (evaluated)",
}
_OWN_LOSSES = "These are not in all models, or sums of different losses: their values cannot be compared."
_TITLES = {"projection": "Projections", "codebook": "How the latent is used"}
_MAX_CHARTS = 12
_HIDDEN_METRICS = ("mse", "n")  # proportional to the error, and a count


def compare(
    runs: Mapping[str, Mapping[str, Any] | Sequence[Mapping[str, Any]]],
    columns: Mapping[str, str] | Sequence[str] | None = None,
) -> Table:
    """A table with one row per run: ``print(compare({"vq": results}))`` in a terminal, ``html()`` on a page.

    Args:
        runs: name -> results (evaluator -> metric -> number), or name -> results of several seeds, which give mean ± standard
            deviation.
        columns: paths such as ``"knn.accuracy"``, or path -> heading; when None, the default columns that were
            measured, or all metrics if there are none of these.
    """
    flat = {name: _flatten(results) for name, results in runs.items()}
    if columns is None:
        columns = {
            path: title for path, title in HEADLINES.items() if any(path in run for run in flat.values())
        }
        if not columns:
            columns = list(dict.fromkeys(path for run in flat.values() for path in run))
    headings = dict(columns) if isinstance(columns, Mapping) else {path: path for path in columns}
    best = {title: direction for path, title in headings.items() if (direction := better_direction(path))}
    rows = {name: [values.get(path) for path in headings] for name, values in flat.items()}
    units = {title: unit_of(path) for path, title in headings.items()}
    counts = sorted({len(run) for run in runs.values() if not isinstance(run, Mapping)})
    caption = f"Mean ± standard deviation of {' or '.join(map(str, counts))} seeds." if counts else ""
    return Table(list(headings.values()), rows, best, units=units, sortable=True, caption=caption)


def _flatten(results: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers by name of one run, or their spread over several."""
    return dict(flatten_metrics(results)) if isinstance(results, Mapping) else dict(spread_metrics(results))


def results_section(
    runs: Runs,
    baselines: Mapping[str, Mapping[str, Any]],
    columns: Mapping[str, str] | Sequence[str] | None,
    groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Section:
    """The metrics: tiles for one run, a table with one row per run for several, and a full list.

    ``groups`` are runs that differ in their seed: name -> names of its runs, which have one row together.
    """
    measured: dict[str, Any] = {name: results for name, results in runs.items() if results}
    if not measured:
        hint = "pass valid= to rk.fit, or write the page by rk.report(out, rk.evaluate(...))."
        return Section("Results", [Note(f"Nothing was measured: {hint}")])
    for name, members in groups.items():
        found = [measured.pop(member) for member in members if member in measured]
        measured |= {name: found} if found else {}
    blocks: list[Block] = []
    compared = {**measured, **baselines}
    if len(compared) > 1 or groups:
        table = compare(compared, columns)
        blocks += [table, *_spread_charts(table)]
    else:
        flat = flatten_metrics(next(iter(measured.values())))
        chosen = HEADLINES if columns is None else columns
        headings = dict(chosen) if isinstance(chosen, Mapping) else {path: path for path in chosen}
        shown = {title: path for path, title in headings.items() if path in flat}
        if shown:
            notes = {title: _describe_metric(path) for title, path in shown.items()}
            blocks.append(Tiles({title: flat[path] for title, path in shown.items()}, notes))
    blocks.append(_all_metrics(compared))
    return Section("Results", blocks)


def _describe_metric(path: str) -> str:
    """Unit of a metric and which direction is better, as far as they are known."""
    direction = {"min": "lower is better", "max": "higher is better", None: ""}[better_direction(path)]
    return ", ".join(text for text in (unit_of(path), direction) if text)


def _spread_charts(table: Table) -> list[Bars]:
    """A bar chart of each column with a spread: means with the standard deviation over seeds."""
    charts = []
    for index, column in enumerate(table.columns):
        values = {name: row[index] for name, row in table.rows.items() if row[index] is not None}
        if not any(isinstance(value, Spread) for value in values.values()):
            continue
        spreads = [value if isinstance(value, Spread) else spread_of([value]) for value in values.values()]
        errors = np.nan_to_num([spread.deviation for spread in spreads])
        charts.append(
            Bars(
                title=column,
                values=np.array([spread.mean for spread in spreads]),
                errors=errors,
                names=list(values),
                ylabel=table.units.get(column, ""),
                caption="Bars: mean. Lines: standard deviation over seeds.",
            )
        )
    return charts


def _all_metrics(runs: Mapping[str, Any]) -> Table:
    """A table of all metrics, one per row, with unit and direction."""
    flat = {name: _flatten(results) for name, results in runs.items()}
    paths = list(dict.fromkeys(path for run in flat.values() for path in run))
    names = [name or "value" for name in flat]
    rows = {path: [run.get(path) for run in flat.values()] for path in paths}
    notes = {path: _describe_metric(path) for path in paths}
    return Table(names, rows, corner="metric", folded=True, notes=notes)


def warnings_section(histories: Mapping[str, RunHistory]) -> Section | None:
    """The warnings during training, such as a collapsed latent or an exploding norm."""
    notes = []
    for name, history in histories.items():
        for warning in history.record.get("warnings") or ():
            step = f"step {warning.get('step')}"
            where = " ".join(part for part in (name, warning.get("stage"), step) if part)
            notes.append(Note(f"{where}: {warning.get('text')}"))
    return Section("Warnings", notes) if notes else None


def curves_sections(histories: Mapping[str, RunHistory]) -> list[Section]:
    """A small chart for each logged number, with a line per run; dashed lines for evaluations.

    Of several runs, the numbers that all of them logged come first.  The losses that only some have, and totals of different
    losses, are apart, since they cannot be compared.
    """
    if not histories:
        return []
    charts, own = _make_charts(histories)
    notes = list(dict.fromkeys(note for history in histories.values() for note in history.notes))
    legend = [Legend(list(histories))] if len(histories) > 1 else []
    dashed = any(color >= DASHED for chart in charts.values() for color in chart.colours or ())
    text = "Solid: training batches. Dashed: evaluations during training." if dashed else ""
    if any(chart.bands for chart in charts.values()):
        text = f"{text} Bands: standard deviation over seeds.".strip()
    shared = {title: chart for title, chart in charts.items() if title not in own}
    sections = []
    for title, group, about in (
        ("Training", shared, text),
        ("Losses of single models", {name: charts[name] for name in own if name in charts}, _OWN_LOSSES),
    ):
        blocks: list[Block] = [*list(group.values())[:_MAX_CHARTS]]
        if len(group) > _MAX_CHARTS:
            notes.append(f"More series are in {METRICS}: {', '.join(list(group)[_MAX_CHARTS:])}.")
        if blocks:
            blocks = [*legend, *blocks]
        if blocks or title == "Training":
            sections.append(Section(title, blocks, about))
    sections[0].blocks = [*sections[0].blocks, *map(Note, notes)]
    return sections


def _make_charts(histories: Mapping[str, RunHistory]) -> tuple[dict[str, Curves], list[str]]:
    """One chart per number, and the titles of those that cannot be compared between the runs.

    ``metrics.error`` and ``results.reconstruction.error`` share a chart.
    """
    drawn = {name: history.curves for name, history in histories.items() if history.curves}
    names = sorted({name: None for curves in drawn.values() for name in curves}, key=_series_order)
    only_term = _only_term(drawn)
    names = [name for name in names if name != only_term]
    losses = {frozenset(name for name in curves if name.startswith("terms.")) for curves in drawn.values()}
    charts: dict[str, Curves] = {}
    own: list[str] = []
    for name in names:
        head, title = name.partition(".")[0], _chart_title(name, names)
        for index, (label, history) in enumerate(histories.items()):
            if name not in history.curves or (name == "lr" and _is_constant(history.curves[name])):
                continue
            log = False if name == "lr" else None
            unit = unit_of(only_term) if name == "loss" and only_term else unit_of(name)
            caption = {"min": "lower is better", "max": "higher is better", None: ""}[better_direction(name)]
            if name == "loss" and only_term:
                caption = f"its only term: {_chart_title(only_term, names)}"
            empty = Curves(
                title=title,
                lines={},
                xlabel="step",
                ylabel=unit,
                log=log,
                legend=False,
                colours=[],
                caption=caption,
            )
            chart = charts.setdefault(title, empty)
            line = f"{label} {name}"
            chart.lines = {**chart.lines, line: history.curves[name]}
            chart.colours = [*(chart.colours or ()), index + (DASHED if head in ("results", "probes") else 0)]
            if name in history.deviations:
                chart.bands = {**chart.bands, line: history.deviations[name]}
        apart = head == "terms" and any(name not in curves for curves in drawn.values())
        if title in charts and title not in own and (apart or (name == "loss" and len(losses) > 1)):
            own.append(title)
            charts[title].caption = ""
    hidden = [title for title in charts if title.rpartition(" ")[2] in _HIDDEN_METRICS]
    return {title: chart for title, chart in charts.items() if title not in hidden}, own


def _only_term(drawn: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The term of the loss that equals the total in all runs; it is not drawn twice."""
    terms = {name for curves in drawn.values() for name in curves if name.startswith("terms.")}
    equal = [
        name
        for name in terms
        if all(name in curves and curves[name] == curves.get("loss") for curves in drawn.values())
    ]
    return equal[0] if len(terms) == 1 and equal else None


def _chart_title(name: str, names: Sequence[str]) -> str:
    """A chart's title; an evaluated metric has the training metric's title if that was logged, too.

    Usage is not the same in both: training looks at a window of batches, ``codebook`` at the evaluated data.
    """
    head, _, rest = name.partition(".")
    if head in ("terms", "metrics"):
        return f"{rest} (training)" if _is_usage(rest) else rest.replace("_", " ")
    if head == "results":
        metric = rest.partition(".")[2]
        if rest == "reconstruction.nll" and "terms.reconstruction" in names:
            return "reconstruction"
        if _is_usage(metric):
            return f"{metric} (evaluated)"
        in_training = any(f"{kind}.{metric}" in names for kind in ("terms", "metrics"))
        return metric.replace("_", " ") if in_training else rest.replace(".", " ").replace("_", " ")
    if head == "probes":
        return f"{rest.replace('.', ' ').replace('_', ' ')} (probe)"
    return {"loss": "total loss", "lr": "learning rate"}.get(name, name)


def _is_usage(metric: str) -> bool:
    return metric.rpartition(".")[2] == "usage"


def _is_constant(curve: tuple[Sequence[float], Sequence[float]]) -> bool:
    return len(set(curve[1])) == 1


def _series_order(name: str) -> int:
    """Sort key: the loss first, then its terms, probes, metrics, evaluations, and the learning rate last."""
    order = ("loss", "terms", "probes", "metrics", "results", "lr")
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
        Note(f"{', '.join(names)}: {note}" if any(names) and len(names) < len(galleries) else note)
        for note, names in runs_of_note.items()
    ]
    sections[-1].blocks = [*sections[-1].blocks, *notes]
    return sections


def probe_section(results: Results | None, runs: Runs) -> Section | None:
    """The figures of the probes at their last measurement, without those of evaluators that the results show anyway."""
    shown = {name for each in runs.values() for name in each.figures}
    groups = {} if results is None else results.figures
    figures = [figure for name, group in groups.items() if name not in shown for figure in group.values()]
    text = "Figures of the probes, which see few examples of the training or the probe data."
    return Section("At the end of training", figures, text) if figures else None


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
