"""``reprkit runs [FOLDER]``: list the runs below a folder, their state, and how to resume them.  Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json, emit_table, printable
from reprkit.errors import TrainingError
from reprkit.reporting.run_history import format_duration
from reprkit.runs.filenames import RECORD
from reprkit.runs.metrics import finite_metrics
from reprkit.runs.reader import find_runs, read_run


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
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
    json: JsonOption = False,
) -> None:
    """List the runs below a folder: state, steps, loss, how to resume."""
    if not folder.is_dir():
        raise TrainingError(
            f"there is no folder {folder}: give the one that runs were written to, as in out="
        )
    rows = [_row(folder, run) for run in find_runs(folder)]
    if json:
        emit_json([asdict(row) for row in rows])
        return
    if not rows:
        print(
            f"no runs below {folder}: a run is a folder with a {RECORD}, which rk.loop(..., out=...) writes"
        )
        return
    emit_table(
        ("run", "state", "step", "time", "loss", "best", "warnings"),
        [
            (
                row.name,
                row.state,
                _progress(row),
                format_duration(row.seconds) if row.seconds else "",
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


def _best(best: Mapping[str, Any] | None) -> str:
    return "" if not best else f"{best['metric']} {best['value']:.4g} (step {best['step']:,})"
