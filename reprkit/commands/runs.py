"""``reprkit runs [FOLDER]``: list the runs below a folder, their state, and how to resume them.  Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json, emit_table, printable
from reprkit.errors import TrainingError, nearest
from reprkit.reporting.run_history import format_duration
from reprkit.runs.comparison import describe_data, describe_latents
from reprkit.runs.filenames import RECORD
from reprkit.runs.metrics import finite_metrics
from reprkit.runs.reader import find_runs, read_run

_HEADLINES = {
    "reconstruction.error": "error",
    "reconstruction.accuracy": "symbols right",
    "linear-probe.accuracy": "probe",
    "knn.accuracy": "k-NN",
    "likelihood.nll": "nll",
}
# Name of a column -> the attribute of a row.
_COLUMNS = {
    "name": "name",
    "latent": "latent",
    "data": "data",
    "seed": "seed",
    "state": "state",
    "date": "started",
    "time": "seconds",
    "loss": "loss",
}


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        latent: of the run, by factor where there are several.
        data: the data set, as a reference where it has one.
        results: the final measurements by flat name, ``knn.accuracy``; None before the evaluation.
        state: running, finished, stopped, failed, killed (recorded as running, but its process is gone), or damaged.
        step: completed steps of the current stage.
        stage: name of the current stage, unless it is the only one.
        seconds: time so far, over all stages.
        loss: the last logged loss.
        best: metric, value and step of the best saved model.
        warnings: number of warnings.
        error: the first line of the error that ended a failed run.
        resume: what resumes a killed, stopped or failed run, a command or a sentence; None otherwise.
    """

    name: str
    folder: str
    state: str
    latent: str = ""
    data: str = ""
    seed: int | None = None
    results: dict[str, float] | None = None
    step: int | None = None
    steps: int | None = None
    stage: str | None = None
    saved: int | None = None
    seconds: float | None = None
    started: str | None = None
    loss: float | None = None
    best: dict[str, Any] | None = None
    warnings: int = 0
    error: str | None = None
    resume: str | None = None


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder to search for runs.", show_default=True)
    ] = Path("runs"),
    sort: Annotated[
        str | None,
        typer.Option(
            help="Sort by name, latent, data, seed, state, date, time, loss or a metric such as knn.accuracy; -X descends.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the runs below a folder: latent, data, state, results, how to resume.

    Losses of different latents or objectives have different terms; compare results instead.
    """
    if not folder.is_dir():
        raise TrainingError(
            f"there is no folder {folder}: give the one that runs were written to, as in out="
        )
    rows = _sorted([_row(folder, run) for run in find_runs(folder)], sort)
    if json:
        emit_json([asdict(row) for row in rows])
        return
    if not rows:
        print(
            f"no runs below {folder}: a run is a folder with a {RECORD}, which rk.loop(..., out=...) writes"
        )
        return
    emit_table(
        (
            "run",
            "state",
            "latent",
            "data",
            "seed",
            "step",
            "date",
            "time",
            "results",
            "loss",
            "best",
            "warnings",
        ),
        [
            (
                row.name,
                row.state,
                row.latent,
                row.data,
                "" if row.seed is None else str(row.seed),
                _progress(row),
                (row.started or "")[:16].replace("T", " "),
                format_duration(row.seconds) if row.seconds else "",
                _headlines(row.results),
                "" if row.loss is None else f"{row.loss:.4g}",
                _best(row.best),
                str(row.warnings or ""),
            )
            for row in rows
        ],
    )
    for row in rows:
        if row.error:
            print(f"\n{printable(f'{row.name} {row.state}: {row.error}')}")
        if row.resume:
            saved = (
                f"saved at step {row.saved:,}" if row.saved else "nothing saved yet, so it starts from step 0"
            )
            print(f"\n{printable(f'{row.name}: {saved}; to resume:')}\n  {printable(row.resume)}")


def _row(top: Path, folder: Path) -> Row:
    name = folder.relative_to(top).as_posix()
    name = folder.resolve().name if name == "." else name
    run = read_run(folder)
    if RECORD in run.faults:
        return Row(name, str(folder), "damaged", error=run.faults[RECORD])
    state = run.status
    stage = run.stages.get(run.stage or "", {})
    error = run.record.get("error") if state == "failed" else None
    return Row(
        name=name,
        folder=str(folder),
        state=state,
        latent=describe_latents(run.record),
        data=describe_data(run.record),
        seed=run.record.get("seed"),
        results=finite_metrics(run.results) or None,
        step=stage.get("step"),
        steps=stage.get("steps"),
        stage=run.stage if list(run.stages) != ["main"] else None,
        saved=stage.get("saved"),
        seconds=round(run.seconds, 3),
        started=run.record.get("started"),
        loss=finite_metrics({"loss": run.last_line.get("loss")}).get("loss"),
        best=run.best,
        warnings=len(run.record.get("warnings") or ()),
        error=str(error).splitlines()[0] if error else None,
        resume=run.resume_advice if state in ("killed", "stopped", "failed") else None,
    )


def _progress(row: Row) -> str:
    if row.steps is None:
        return ""
    progress = f"{row.step or 0:,}/{row.steps:,}"
    return f"{row.stage} {progress}" if row.stage else progress


def _headlines(results: Mapping[str, float] | None) -> str:
    """The usual measures of a run with one model: error, accuracies."""
    shown = {path: value for path, value in (results or {}).items() if path in _HEADLINES}
    return ", ".join(f"{_HEADLINES[path]} {value:.4g}" for path, value in shown.items())


def _sorted(rows: list[Row], by: str | None) -> list[Row]:
    """Sort rows by a column or metric; ``-NAME`` descends.  Rows without a value stand last.

    Raises:
        TrainingError: no row has it.
    """
    if by is None:
        return rows
    name = by.removeprefix("-")
    values = [_value(row, _COLUMNS.get(name), name) for row in rows]
    if rows and all(value is None for value in values):
        measured = dict.fromkeys(path for row in rows for path in row.results or ())
        known = [*_COLUMNS, *measured]
        raise TrainingError(f"no run has {name!r}.{nearest(name, known)}\n  known: {', '.join(known)}")
    have = sorted(
        (i for i, value in enumerate(values) if value is not None),
        key=lambda i: values[i],
        reverse=by != name,
    )
    return [rows[i] for i in [*have, *(i for i, value in enumerate(values) if value is None)]]


def _value(row: Row, column: str | None, metric: str) -> Any:
    return (row.results or {}).get(metric) if column is None else getattr(row, column)


def _best(best: Mapping[str, Any] | None) -> str:
    return "" if not best else f"{best['metric']} {best['value']:.4g} (step {best['step']:,})"
