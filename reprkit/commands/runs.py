"""``reprkit runs [FOLDER]``: the runs below a folder, what became of each, and how to go on.  Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.commands.output import emit_json, emit_table, printable
from reprkit.errors import TrainingError
from reprkit.reporting.run_history import format_duration
from reprkit.runs.filenames import RECORD
from reprkit.runs.reader import find_runs, read_run


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        state: running, finished, stopped, failed, killed (it says running, and its process is gone), or damaged.
        step: steps that are complete, of the stage where it is.
        stage: its name, where it is not the only one.
        seconds: spent so far, over all stages.
        loss: the last one logged.
        best: metric, value and step of the best model kept.
        warnings: how many.
        error: the first line of what ended a failed run.
        resume: the command that goes on with a run that has not ended well; None when there is none.
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
        Path, typer.Argument(metavar="FOLDER", help="Below which runs are looked for.", show_default=True)
    ] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the runs below a folder: state, steps, loss, how to go on."""
    if not folder.is_dir():
        raise TrainingError(
            f"there is no folder {folder}: give the one that runs were written to, as in out="
        )
    rows = [_row(folder, each) for each in find_runs(folder)]
    if json:
        emit_json([asdict(each) for each in rows])
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
                each.name,
                each.state,
                _progress(each),
                format_duration(each.seconds) if each.seconds else "",
                "" if each.loss is None else f"{each.loss:.4g}",
                _best(each.best),
                str(each.warnings or ""),
            )
            for each in rows
        ],
    )
    for each in rows:
        if each.error:
            print(f"\n{printable(f'{each.name} {each.state}: {each.error}')}")
        if each.resume:
            saved = f"saved at step {each.saved:,}" if each.saved else "nothing saved yet, so it starts anew"
            print(f"\n{printable(f'{each.name}: {saved}; to go on:')}\n  {printable(each.resume)}")


def _row(top: Path, folder: Path) -> Row:
    name = folder.relative_to(top).as_posix()
    name = folder.resolve().name if name == "." else name
    run = read_run(folder)
    if RECORD in run.faults:
        return Row(name, str(folder), "damaged", error=run.faults[RECORD])
    state = run.status
    about = run.stages.get(run.stage or "", {})
    error = run.record.get("error") if state == "failed" else None
    return Row(
        name=name,
        folder=str(folder),
        state=state,
        step=about.get("step"),
        steps=about.get("steps"),
        stage=run.stage if list(run.stages) != ["main"] else None,
        saved=about.get("saved"),
        seconds=round(run.seconds, 3),
        started=run.record.get("started"),
        loss=run.last_line.get("loss"),
        best=run.best,
        warnings=len(run.record.get("warnings") or ()),
        error=str(error).splitlines()[0] if error else None,
        resume=run.resume_command if state in ("killed", "stopped", "failed") else None,
    )


def _progress(row: Row) -> str:
    if row.steps is None:
        return ""
    told = f"{row.step or 0:,}/{row.steps:,}"
    return f"{row.stage} {told}" if row.stage else told


def _best(best: Mapping[str, Any] | None) -> str:
    return "" if not best else f"{best['metric']} {best['value']:.4g} (step {best['step']:,})"
