"""The sections of a report, each from what there is; an empty one is left out with a word."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reprkit.reporting.exhibits import exhibit, traversal
from reprkit.reporting.figures import DASHED, Curves
from reprkit.reporting.folder import Trace
from reprkit.reporting.page import Block, Legend, Note, Section, Table, Tiles
from reprkit.runs.filenames import METRICS
from reprkit.runs.metric_direction import better_direction
from reprkit.runs.metrics import flatten_metrics as numbers_of
from reprkit.runs.results import Results

Runs = Mapping[str, Results]

# What a comparison shows first, where it was measured: path -> heading.
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
_CHARTS = 12  # curves shown at most
_UNSEEN = ("mse", "n")  # the same as error but for a factor, and a count


def compare(
    runs: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str] | Sequence[str] | None = None
) -> Table:
    """One table with a row per run: ``print(compare({"vq": results}))`` in a terminal, ``html()`` on a page.

    Args:
        runs: name -> results (evaluator -> metric -> number).
        columns: paths such as ``"knn.accuracy"``, or path -> heading; the usual ones that were measured
            when None.
    """
    flat = {name: numbers_of(results) for name, results in runs.items()}
    if columns is None:
        columns = {
            path: title for path, title in HEADLINES.items() if any(path in each for each in flat.values())
        }
        if not columns:
            columns = list(dict.fromkeys(path for each in flat.values() for path in each))
    headings = dict(columns) if isinstance(columns, Mapping) else {path: path for path in columns}
    best = {title: better_direction(path) for path, title in headings.items()}
    rows = {name: [values.get(path) for path in headings] for name, values in flat.items()}
    return Table(list(headings.values()), rows, best={k: v for k, v in best.items() if v is not None})


def results_section(
    runs: Runs, baselines: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str] | Sequence[str] | None
) -> Section:
    """The numbers: large ones and a full list for one run, a table with a row per run for several."""
    measured = {name: results for name, results in runs.items() if results}
    if not measured:
        return Section("Results", [Note("Nothing was measured: give report(out, rk.evaluate(...)).")])
    blocks: list[Block] = []
    everyone = {**measured, **baselines}
    if len(everyone) > 1:
        blocks.append(compare(everyone, columns))
    else:
        flat = numbers_of(next(iter(measured.values())))
        large = {title: flat[path] for path, title in HEADLINES.items() if path in flat}
        if large:
            blocks.append(Tiles(large))
    blocks.append(_everything(everyone))
    return Section("Results", blocks)


def _everything(runs: Mapping[str, Mapping[str, Any]]) -> Table:
    """All metrics, a row each."""
    flat = {name: numbers_of(results) for name, results in runs.items()}
    paths = list(dict.fromkeys(path for each in flat.values() for path in each))
    names = [name or "value" for name in flat]
    return Table(
        names,
        {path: [each.get(path) for each in flat.values()] for path in paths},
        corner="metric",
        folded=True,
    )


def warnings_section(folders: Mapping[str, Trace]) -> Section | None:
    """What a run warned of while it trained: codes that collapsed, a norm that exploded."""
    notes = []
    for name, trace in folders.items():
        for each in trace.record.get("warnings") or ():
            where = " ".join(part for part in (name, each.get("stage"), f"step {each.get('step')}") if part)
            notes.append(Note(f"{where}: {each.get('text')}"))
    return Section("Warnings", notes) if notes else None


def curves_section(folders: Mapping[str, Trace]) -> Section | None:
    """A small chart for each logged number, the runs over each other; what was evaluated is dashed."""
    if not folders:
        return None
    charts = _charts(folders)
    blocks: list[Block] = [*list(charts.values())[:_CHARTS]]
    notes = list(dict.fromkeys(note for trace in folders.values() for note in trace.notes))
    if len(charts) > _CHARTS:
        notes.append(f"More series are in {METRICS}: {', '.join(list(charts)[_CHARTS:])}.")
    if len(folders) > 1 and blocks:
        blocks.insert(0, Legend(list(folders)))
    dashed = any(place >= DASHED for chart in charts.values() for place in chart.colours or ())
    text = "Solid: in training. Dashed: evaluated on the way." if dashed else ""
    return Section("Training", [*blocks, *map(Note, notes)], text)


def _charts(folders: Mapping[str, Trace]) -> dict[str, Curves]:
    """One chart a number: ``metrics.error`` and ``results.reconstruction.error`` share theirs."""
    names = sorted(dict.fromkeys(name for trace in folders.values() for name in trace.curves), key=_place)
    charts: dict[str, Curves] = {}
    for name in names:
        head, title = name.partition(".")[0], _series(name, names)
        for place, (label, trace) in enumerate(folders.items()):
            if name not in trace.curves or (name == "lr" and _flat(trace.curves[name])):
                continue
            log = False if name == "lr" else None
            fresh = Curves(title=title, lines={}, xlabel="step", log=log, legend=False, colours=[])
            chart = charts.setdefault(title, fresh)
            chart.lines = {**chart.lines, f"{label} {name}": trace.curves[name]}
            chart.colours = [*(chart.colours or ()), place + (DASHED if head == "results" else 0)]
    return {title: chart for title, chart in charts.items() if title.rpartition(" ")[2] not in _UNSEEN}


def _series(name: str, names: Sequence[str]) -> str:
    """A chart's title: what was evaluated is called as in training where it was logged there too."""
    head, _, rest = name.partition(".")
    if head in ("terms", "metrics"):
        return rest
    if head == "results":
        metric = rest.partition(".")[2]
        alike = any(f"{kind}.{metric}" in names for kind in ("terms", "metrics"))
        return metric if alike else rest.replace(".", " ").replace("_", " ")
    return {"loss": "total loss", "lr": "learning rate"}.get(name, name)


def _flat(curve: tuple[Sequence[float], Sequence[float]]) -> bool:
    return len(set(curve[1])) == 1


def _place(name: str) -> int:
    """The loss first, then its terms, metrics, what was evaluated, and the learning rate last."""
    order = ("loss", "terms", "metrics", "results", "lr")
    head = name.partition(".")[0]
    return order.index(head) if head in order else len(order)


def gallery_sections(runs: Runs) -> list[Section]:
    """Inputs and outputs, samples, traversals."""
    shown = {name: results.gallery for name, results in runs.items() if results.gallery is not None}
    if not shown:
        why = (
            "No pictures: these results carry none (no decoder, examples=0, or read back from results.json)."
        )
        return [Section("Inputs and reconstructions", [Note(why)])] if any(runs.values()) else []
    made: list[Section] = []
    first = next(iter(shown.values()))
    alike = {
        n: g for n, g in shown.items() if g.field == first.field and np.array_equal(g.inputs, first.inputs)
    }
    figures = exhibit(
        "",
        first.field,
        {"input": first.inputs, **{name or "reconstruction": each.outputs for name, each in alike.items()}},
        lengths=first.lengths,
    )
    for name, each in shown.items():
        if name not in alike:
            figures += exhibit(
                name, each.field, {"input": each.inputs, "reconstruction": each.outputs}, lengths=each.lengths
            )
    made.append(Section("Inputs and reconstructions", figures))
    drawn = {name: each for name, each in shown.items() if each.samples is not None}
    if drawn:
        rows = {name or "sample": each.samples for name, each in drawn.items() if each.samples is not None}
        made.append(Section("Samples from the prior", exhibit("", next(iter(drawn.values())).field, rows)))
    moved = [figure for name, each in shown.items() for figure in traversal(each, name)]
    if moved:
        text = "One code at a time, moved along one dimension from −2 to 2 standard deviations."
        made.append(Section("Latent traversals", moved, text))
    said: dict[str, list[str]] = {}
    for name, each in shown.items():
        for note in each.notes:
            said.setdefault(note, []).append(name)
    notes = [Note(f"{', '.join(names)}: {note}" if names != [""] else note) for note, names in said.items()]
    made[-1].blocks = [*made[-1].blocks, *notes]
    return made


def figure_sections(runs: Runs) -> list[Section]:
    """What the evaluators drew: one section for one run, a section per evaluator for several."""
    names = list(dict.fromkeys(name for results in runs.values() for name in results.figures))
    names.sort(key=lambda name: list(_TITLES).index(name) if name in _TITLES else len(_TITLES))
    if len(runs) == 1:
        figures = [each for name in names for each in next(iter(runs.values())).figures[name].values()]
        return [Section("The representation", figures)] if figures else []
    made = []
    for name in names:
        kinds = dict.fromkeys(kind for results in runs.values() for kind in results.figures.get(name, {}))
        figures = [
            _named(results.figures[name][kind], run)
            for kind in kinds  # all runs' t-SNE beside each other, then the next kind
            for run, results in runs.items()
            if kind in results.figures.get(name, {})
            and not getattr(results.figures[name][kind], "detail", False)
        ]
        if figures:
            made.append(Section(_TITLES.get(name, name.capitalize()), figures))
    return made


def _named(figure: Any, run: str) -> Any:
    """The figure under the run's name, its own title before its caption."""
    named = copy.copy(figure)
    named.title, named.caption = run, ". ".join(each for each in (figure.title, figure.caption) if each)
    return named
