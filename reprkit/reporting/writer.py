"""``rk.report``: write one self-contained HTML page about a run, or about several side by side."""

from __future__ import annotations

import itertools
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.checkpoints.reader import holds_checkpoint
from reprkit.errors import CheckpointError, TrainingError
from reprkit.reporting import provenance
from reprkit.reporting import sections as parts
from reprkit.reporting.page import Note, Page, Section
from reprkit.reporting.page_store import (
    PageContent,
    read_page_store,
    render_figures,
    render_section,
    write_page_store,
)
from reprkit.reporting.run_history import (
    RunHistory,
    average_histories,
    describe_process,
    read_or_note,
    read_run_history,
)
from reprkit.runs.filenames import FIGURES, METRICS, MODEL, PAGE, PROBE_FIGURES, RESULTS
from reprkit.runs.reader import read_results, read_run, require_run
from reprkit.runs.results import Results
from reprkit.runs.run import results_text, write_results
from reprkit.utils.atomic_files import explain_os_error

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


def report(
    out: str | os.PathLike[str],
    results: Results | Mapping[str, Mapping[str, Any] | Sequence[Mapping[str, Any]]] | None = None,
    *,
    title: str | None = None,
    verdict: str = "",
    columns: Mapping[str, str] | Sequence[str] | None = None,
    baselines: Mapping[str, Mapping[str, Any]] | None = None,
    sections: Sequence[Section] = (),
    model: Model | None = None,
    data: Dataset | None = None,
) -> Path:
    """Write ``OUT/report.html`` and ``OUT/results.json``, and return the page's path.

    The page shows the metrics, loss curves (``OUT/metrics.jsonl``), inputs above reconstructions, samples,
    traversals, the evaluators' figures, parts, data, command and versions (``OUT/run.json``).  A note stands where
    something is missing.  The page has no links to other files or to the network.  The model card of ``OUT/model``
    is updated.  With several ranks only rank 0 writes.

    Other results that an earlier process wrote are kept: as ``results-1.json``, ``figures-1.npz``, ``report-1.html``, which a
    warning says.

    Args:
        out: the run's folder; created if missing.
        results: the result of ``rk.evaluate``; or name -> results, for one page about several runs, whose folders are
            those of their own reports, or ``OUT/NAME``; a list of results under one name are runs that differ in their seed, shown
            as mean and standard deviation; or None to write the page again from ``OUT/results.json`` and
            ``OUT/figures.npz``, also while a run trains.
        title: the page's heading.
        verdict: a sentence under the heading.
        columns: columns of the comparison: paths such as ``"knn.accuracy"``, or path -> heading.
        baselines: name -> results (or plain evaluator -> metric -> number) to compare with.
        sections: more sections, inserted before those on parts and data.
        model: with ``data``, computes the pictures if the results have none.
        data: see ``model``.

    Raises:
        TrainingError: the page cannot be written; an older page is unchanged.  Or without results: ``out`` is not a run.
    """
    out = Path(out)
    page = out / PAGE
    if results is None and model is None and not sections:
        require_run(out)
    if not _is_first_rank():
        return page
    notes: list[str] = []
    before = None if results is not None else read_or_note(lambda: read_page_store(out), notes)
    groups: dict[str, list[str]] = {}
    runs = _name_runs(read_or_note(lambda: read_results(out), notes) if results is None else results, groups)
    if before is not None:
        runs = _restore_figures(runs, before.runs)
    if model is not None and data is not None:
        _add_pictures(runs, model, data)
    before = before or PageContent()
    content = PageContent(
        runs={name: render_figures(run) for name, run in runs.items()},
        title=title or before.title,
        verdict=verdict or before.verdict,
        columns=columns or before.columns,
        baselines=baselines or before.baselines,
        sections=[render_section(section) for section in sections] or before.sections,
        groups=groups or before.groups,
    )
    document = _build_page(out, content, notes)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if results is not None:
            _keep_other_results(out, runs[""] if list(runs) == [""] else runs)
        if results is not None or model is not None:
            write_page_store(out, content)
        if results is not None:
            write_results(out, runs[""] if list(runs) == [""] else runs)
        document.write(page)
    except OSError as error:
        raise TrainingError(
            f"cannot write {page}: {explain_os_error(error)}; an older page is unchanged"
        ) from error
    _renew_card(out)
    for name, run in runs.items():
        if not name:
            run.folder = out
    return page


def _keep_other_results(out: Path, results: Mapping[str, Any]) -> None:
    """Rename results that an earlier process wrote, with their page and figures, if those to be written differ."""
    key = str(out.resolve())
    known, _own_results[key] = _own_results.get(key), results_text(results)
    try:
        before = (out / RESULTS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    if before in (known, results_text(results)):
        return
    number = next(n for n in itertools.count(1) if not (out / f"results-{n}.json").exists())
    kept = []
    for name in (RESULTS, FIGURES, PAGE):
        path = out / name
        if path.is_file():
            kept.append(path.rename(path.with_stem(f"{path.stem}-{number}")).name)
    warnings.warn(f"{out} held other results; they are kept as {', '.join(kept)}", stacklevel=3)


_own_results: dict[str, str] = {}  # folder -> the results that this process wrote there


def current_page(out: Path) -> Page:
    """Return the page of a run from its folder as it is now, without writing anything, also while it trains."""
    notes: list[str] = []
    stored = read_or_note(lambda: read_page_store(out), notes) or PageContent()
    runs = _restore_figures(_name_runs(read_or_note(lambda: read_results(out), notes), {}), stored.runs)
    return _build_page(out, replace(stored, runs=runs), notes)


def _read_probes(out: Path, notes: list[str]) -> Results | None:
    """Return the figures that the loop's probes left in the folder."""
    stored = read_or_note(lambda: read_page_store(out, PROBE_FIGURES), notes)
    return None if stored is None else next(iter(stored.runs.values()), None)


def write_probe_figures(out: Path, results: Results) -> None:
    """Write the figures of a loop's probes into its folder, for every page that is made of it; nothing where there are none.

    Raises:
        OSError: the file cannot be written.
    """
    if results.figures:
        write_page_store(out, PageContent(runs={"": render_figures(results)}), PROBE_FIGURES)


def _build_page(out: Path, content: PageContent, notes: list[str]) -> Page:
    every, groups = content.runs, content.groups
    every_history = _read_histories(out, every)
    runs, histories = _show_groups(every, every_history, groups)
    origin = [provenance.parts_section(runs), provenance.data_section(runs, histories)]
    has_record = any(history.record for history in histories.values())
    warned = parts.warnings_section(every_history)
    probed = parts.probe_section(_read_probes(out, notes) if list(every) == [""] else None, every)
    return Page(
        title=content.title or _default_title(out, runs),
        verdict=content.verdict,
        facts=provenance.facts_line(runs, histories),
        sections=[
            parts.results_section(every, content.baselines, content.columns, groups),
            *([warned] if warned is not None else []),
            *parts.curves_sections(histories),
            *parts.gallery_sections(runs),
            *parts.figure_sections(runs),
            *([probed] if probed is not None else []),
            *content.sections,
            *(section for section in origin if section is not None),
            provenance.run_section(every_history, {} if has_record else describe_process()),
            *([Section("Left out", [Note(note) for note in notes])] if notes else []),
        ],
        made=f"Made by reprkit, {time.strftime('%Y-%m-%d %H:%M')}.",
    )


def _show_groups(
    runs: Mapping[str, Results], histories: Mapping[str, RunHistory], groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Results], dict[str, RunHistory]]:
    """Of runs that differ in their seed, the first one's pictures and the mean of their curves, under the group's name."""
    group_of = {member: name for name, members in groups.items() for member in members}
    shown: dict[str, Results] = {}
    curves: dict[str, list[RunHistory]] = {}
    for name, results in runs.items():
        shown.setdefault(group_of.get(name, name), results)
    for name, history in histories.items():
        curves.setdefault(group_of.get(name, name), []).append(history)
    averaged = {name: each[0] if len(each) == 1 else average_histories(each) for name, each in curves.items()}
    return shown, averaged


def _is_first_rank() -> bool:
    """Whether this process writes; one that has not imported torch is the only process."""
    if "torch" not in sys.modules:
        return True
    from reprkit.utils import collectives

    return collectives.is_main()


def _restore_figures(runs: dict[str, Results], before: Mapping[str, Results]) -> dict[str, Results]:
    """Add figures, gallery and facts of the page store to results that were read from ``results.json``."""
    for name, run in runs.items():
        if name in before:
            stored = before[name]
            run.figures, run.galleries, run.about, run.folder = (
                stored.figures,
                stored.galleries,
                stored.about,
                stored.folder,
            )
    return runs


def _renew_card(out: Path) -> None:
    """Update the model card of the run's model with the new results."""
    from reprkit.checkpoints import card

    if holds_checkpoint(out / MODEL):
        try:
            card.update_card(out / MODEL)
        except (CheckpointError, OSError) as error:
            warnings.warn(f"the card of {out / MODEL} could not be renewed: {error}", stacklevel=3)


def _name_runs(results: Any, groups: dict[str, list[str]]) -> dict[str, Results]:
    """Name -> Results; a single run without a name is called "".  Runs of several seeds are added to ``groups``."""
    if not results:
        return {"": results if isinstance(results, Results) else Results()}
    several = not isinstance(results, Results) and all(
        (isinstance(run, Mapping) and run and all(isinstance(metrics, Mapping) for metrics in run.values()))
        or (isinstance(run, Sequence) and run and all(isinstance(seed, Mapping) for seed in run))
        for run in results.values()
    )
    if not several:
        return {"": results if isinstance(results, Results) else Results(results)}
    named: dict[str, Results] = {}
    for name, run in results.items():
        if isinstance(run, Mapping):
            named[name] = run if isinstance(run, Results) else Results(run)
            continue
        groups[name] = []
        for number, each in enumerate(run, 1):
            member = f"{name}, {_seed_name(each) or f'run {number}'}"
            member = f"{name}, run {number}" if member in named else member
            named[member] = each if isinstance(each, Results) else Results(each)
            groups[name].append(member)
    return named


def _seed_name(results: Mapping[str, Any]) -> str:
    """Return ``seed 3`` for results whose run's folder is known; else ""."""
    folder = getattr(results, "folder", None)
    seed = None if folder is None else read_run(folder).record.get("seed")
    return "" if seed is None else f"seed {seed}"


def _add_pictures(runs: dict[str, Results], model: Model, data: Dataset) -> None:
    """Compute the pictures of results that have none; the model's state stays unchanged."""
    from reprkit.reporting.gallery import add_gallery

    for each in runs.values():
        if not each.galleries:
            add_gallery(each, model, data)


def _read_histories(out: Path, runs: Mapping[str, Results]) -> dict[str, RunHistory]:
    """Read the runs' folders: OUT itself for one run, each run's own for several."""
    if list(runs) == [""]:
        return {"": read_run_history(out)}
    histories = {}
    for name, results in runs.items():
        for folder in (results.folder, out / name):
            if folder is not None and (Path(folder) / METRICS).is_file():
                histories[name] = read_run_history(Path(folder))
                break
    return histories


def _default_title(out: Path, runs: Mapping[str, Results]) -> str:
    """The latent and the data if they are known, else the folder's name."""
    if list(runs) == [""]:
        about = runs[""].about
        parts = about.get("parts") or {}
        data = (about.get("data") or {}).get("name")
        latents = [
            part["reference"].removeprefix("reprkit/")
            for role, part in parts.items()
            if role.startswith("latent")
        ]
        if latents:
            return f"{' and '.join(latents)} on {data}" if data else " and ".join(latents)
    return out.resolve().name.replace("_", " ").replace("-", " ")
