"""``rk.report``: one self-contained HTML page of a run, or of several side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit import distributed
from reprkit.evaluation.results import Results
from reprkit.reporting import provenance
from reprkit.reporting import sections as parts
from reprkit.reporting.folder import Trace, read_trace, readable, this_process
from reprkit.reporting.page import Note, Page, Section

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.model import Model


def report(
    out: str | os.PathLike[str],
    results: Results | Mapping[str, Mapping[str, Any]] | None = None,
    *,
    title: str | None = None,
    verdict: str = "",
    columns: Mapping[str, str] | Sequence[str] | None = None,
    baselines: Mapping[str, Mapping[str, Any]] | None = None,
    sections: Sequence[Section] = (),
    model: Model | None = None,
    data: Dataset | None = None,
) -> Path:
    """Write ``OUT/report.html`` and ``OUT/results.json``; returns the page's path.

    The page holds the metrics, loss curves (``OUT/metrics.jsonl``), inputs over reconstructions, samples,
    traversals, the evaluators' figures, parts, data, command and versions (``OUT/run.json``).  What is
    missing is left out with a word.  Nothing in it points outside.  Under several ranks only the first
    writes.

    Args:
        out: the run's folder; made where there is none.
        results: what ``rk.evaluate`` returned; or name -> results, for one page about several runs, whose
            own folders are looked for where their own report was written, and at ``OUT/NAME``; or None to
            read ``OUT/results.json``.
        title: the page's heading.
        verdict: a sentence under it.
        columns: of the comparison: paths such as ``"knn.accuracy"``, or path -> heading.
        baselines: name -> results (or plain evaluator -> metric -> number) to compare with.
        sections: more sections, put before those on parts and data.
        model: with ``data``, makes the pictures where the results carry none.
        data: see ``model``.
    """
    out = Path(out)
    page = out / "report.html"
    if distributed.rank() != 0:
        return page
    from reprkit.training.run import read_results, write_results

    notes: list[str] = []
    runs = _runs(readable(lambda: read_results(out), notes) if results is None else results)
    if model is not None and data is not None:
        _pictured(runs, model, data)
    folders = _folders(out, runs)
    made_of = [provenance.parts_section(runs), provenance.data_section(runs, folders)]
    curves = parts.curves_section(folders)
    made = Page(
        title=title or _title(out, runs),
        verdict=verdict,
        sections=[
            parts.results_section(runs, baselines or {}, columns),
            *([curves] if curves else []),
            *parts.gallery_sections(runs),
            *parts.figure_sections(runs),
            *sections,
            *(each for each in made_of if each is not None),
            provenance.run_section(folders, this_process()),
            *([Section("Left out", [Note(each) for each in notes])] if notes else []),
        ],
        made=f"Made by reprkit, {time.strftime('%Y-%m-%d %H:%M')}.",
    )
    if results is not None:
        write_results(out, runs[""] if list(runs) == [""] else runs)
    made.write(page)
    for name, each in runs.items():
        if not name:
            each.folder = out
    return page


def _runs(results: Any) -> dict[str, Results]:
    """Name -> Results; one run without a name of its own is called ""."""
    if not results:
        return {"": results if isinstance(results, Results) else Results()}
    several = not isinstance(results, Results) and all(
        isinstance(value, Mapping) and value and all(isinstance(each, Mapping) for each in value.values())
        for value in results.values()
    )
    named = dict(results) if several else {"": results}
    return {name: each if isinstance(each, Results) else Results(each) for name, each in named.items()}


def _pictured(runs: dict[str, Results], model: Model, data: Dataset) -> None:
    """Let the model make what its results do not carry, without a trace in it."""
    from reprkit.evaluation.harness import pictured

    for each in runs.values():
        if each.gallery is None:
            pictured(each, model, data)


def _folders(out: Path, runs: Mapping[str, Results]) -> dict[str, Trace]:
    """The folders that runs left: OUT itself, or for several runs each one's own."""
    if list(runs) == [""]:
        return {"": read_trace(out)}
    found = {}
    for name, results in runs.items():
        for folder in (results.folder, out / name):
            if folder is not None and (Path(folder) / "metrics.jsonl").is_file():
                found[name] = read_trace(Path(folder))
                break
    return found


def _title(out: Path, runs: Mapping[str, Results]) -> str:
    """The latent and the data where they are known, else the folder's name."""
    if list(runs) == [""]:
        about = runs[""].about
        parts = about.get("parts", {})
        latents = [
            each["reference"].removeprefix("reprkit/")
            for role, each in parts.items()
            if role.startswith("latent")
        ]
        if latents:
            return f"{' and '.join(latents)} on {about['data']['name']}"
    return out.resolve().name.replace("_", " ").replace("-", " ")
