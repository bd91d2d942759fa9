"""``rk.report``: one self-contained HTML page of a run, or of several side by side."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.checkpoints.reader import holds_checkpoint
from reprkit.errors import CheckpointError, TrainingError
from reprkit.reporting import provenance
from reprkit.reporting import sections as parts
from reprkit.reporting.folder import Trace, read_trace, readable, this_process
from reprkit.reporting.page import Note, Page, Section
from reprkit.reporting.page_store import Made, drawn, frozen, keep, kept
from reprkit.runs.filenames import METRICS, MODEL, PAGE
from reprkit.runs.reader import read_results
from reprkit.runs.results import Results
from reprkit.utils.atomic_files import explain_os_error

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


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
    missing is left out with a word.  Nothing in it points outside.  The card of the model in ``OUT/model``
    is renewed.  Under several ranks only the first writes.

    Args:
        out: the run's folder; made where there is none.
        results: what ``rk.evaluate`` returned; or name -> results, for one page about several runs, whose
            own folders are looked for where their own report was written, and at ``OUT/NAME``; or None to
            make the page again from ``OUT/results.json`` and ``OUT/figures.npz``, also while a run trains.
        title: the page's heading.
        verdict: a sentence under it.
        columns: of the comparison: paths such as ``"knn.accuracy"``, or path -> heading.
        baselines: name -> results (or plain evaluator -> metric -> number) to compare with.
        sections: more sections, put before those on parts and data.
        model: with ``data``, makes the pictures where the results carry none.
        data: see ``model``.

    Raises:
        TrainingError: it cannot be written; an older page is as it was.
    """
    out = Path(out)
    page = out / PAGE
    if not _first_rank():
        return page
    from reprkit.runs.run import write_results

    notes: list[str] = []
    before = None if results is not None else readable(lambda: kept(out), notes)
    runs = _runs(readable(lambda: read_results(out), notes) if results is None else results)
    if before is not None:
        runs = _rejoined(runs, before.runs)
    if model is not None and data is not None:
        _pictured(runs, model, data)
    shown = {name: drawn(each) for name, each in runs.items()}
    asked = before or Made()
    asked = Made(
        runs=shown,
        title=title or asked.title,
        verdict=verdict or asked.verdict,
        columns=columns or asked.columns,
        baselines=baselines or asked.baselines,
        sections=[frozen(each) for each in sections] or asked.sections,
    )
    made = _page(out, asked, notes)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if results is not None or model is not None:
            keep(out, asked)
        if results is not None:
            write_results(out, runs[""] if list(runs) == [""] else runs)
        made.write(page)
    except OSError as error:
        raise TrainingError(
            f"cannot write {page}: {explain_os_error(error)}; an older page is untouched"
        ) from error
    _renew_card(out)
    for name, each in runs.items():
        if not name:
            each.folder = out
    return page


def _page(out: Path, asked: Made, notes: Sequence[str]) -> Page:
    runs = asked.runs
    folders = _folders(out, runs)
    made_of = [provenance.parts_section(runs), provenance.data_section(runs, folders)]
    alone = any(trace.record for trace in folders.values())
    some = (parts.warnings_section(folders), parts.curves_section(folders))
    return Page(
        title=asked.title or _title(out, runs),
        verdict=asked.verdict,
        sections=[
            parts.results_section(runs, asked.baselines, asked.columns),
            *(each for each in some if each is not None),
            *parts.gallery_sections(runs),
            *parts.figure_sections(runs),
            *asked.sections,
            *(each for each in made_of if each is not None),
            provenance.run_section(folders, {} if alone else this_process()),
            *([Section("Left out", [Note(each) for each in notes])] if notes else []),
        ],
        made=f"Made by reprkit, {time.strftime('%Y-%m-%d %H:%M')}.",
    )


def _first_rank() -> bool:
    """A process that has not imported torch is alone."""
    if "torch" not in sys.modules:
        return True
    from reprkit.utils import collectives

    return collectives.rank() == 0


def _rejoined(numbers: dict[str, Results], before: Mapping[str, Results]) -> dict[str, Results]:
    """Results read back, with the pictures and facts that were kept of them."""
    for name, each in numbers.items():
        if name in before:
            other = before[name]
            each.figures, each.gallery, each.about, each.folder = (
                other.figures,
                other.gallery,
                other.about,
                other.folder,
            )
    return numbers


def _renew_card(out: Path) -> None:
    """The card of the run's model tells what was measured."""
    from reprkit.checkpoints import card

    if holds_checkpoint(out / MODEL):
        try:
            card.update_card(out / MODEL)
        except (CheckpointError, OSError) as error:
            warnings.warn(f"the card of {out / MODEL} could not be renewed: {error}", stacklevel=3)


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
    from reprkit.evaluation.harness import add_gallery

    for each in runs.values():
        if each.gallery is None:
            add_gallery(each, model, data)


def _folders(out: Path, runs: Mapping[str, Results]) -> dict[str, Trace]:
    """The folders that runs left: OUT itself, or for several runs each one's own."""
    if list(runs) == [""]:
        return {"": read_trace(out)}
    found = {}
    for name, results in runs.items():
        for folder in (results.folder, out / name):
            if folder is not None and (Path(folder) / METRICS).is_file():
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
