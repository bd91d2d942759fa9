"""``reprkit runs [FOLDER]``: the runs below a folder, what became of each, and how to go on.  Torch-free."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.commands.output import emit_json, emit_table, printable
from reprkit.errors import TrainingError
from reprkit.filenames import BEST, METRICS, MODEL, RECORD, STATE
from reprkit.reporting.folder import duration
from reprkit.training.run import last_line, read_record, status_of

_INSIDE = {MODEL, STATE, BEST}  # of a run: no runs are looked for in there


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
    rows = [_row(folder, each) for each in found(folder)]
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
                duration(each.seconds) if each.seconds else "",
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


def found(folder: Path) -> Iterator[Path]:
    """The folders of runs, sorted; hidden ones (what was replaced) are left out."""
    for place, inner, files in os.walk(folder):
        own = RECORD in files
        inner[:] = sorted(
            each for each in inner if not each.startswith(".") and not (own and each in _INSIDE)
        )
        if own:
            yield Path(place)


def _row(top: Path, folder: Path) -> Row:
    name = folder.relative_to(top).as_posix()
    name = folder.resolve().name if name == "." else name
    try:
        record = read_record(folder)
    except TrainingError as damage:
        return Row(name, str(folder), "damaged", error=str(damage))
    stages: Mapping[str, Any] = record.get("stages") or {}
    open_stages = [each for each, about in stages.items() if about.get("status") != "finished"]
    stage = (open_stages or list(stages) or [""])[-1]
    about = stages.get(stage, {})
    state = status_of(record)
    line = last_line(folder / METRICS)
    best = next((each["best"] for each in reversed(list(stages.values())) if each.get("best")), None)
    error = str(record["error"]).splitlines()[0] if state == "failed" and record.get("error") else None
    return Row(
        name=name,
        folder=str(folder),
        state=state,
        step=about.get("step"),
        steps=about.get("steps"),
        stage=stage if list(stages) != ["main"] and stage else None,
        saved=about.get("saved"),
        seconds=round(sum(each.get("seconds") or 0 for each in stages.values()), 3),
        started=record.get("started"),
        loss=line.get("loss"),
        best=best,
        warnings=len(record.get("warnings") or ()),
        error=error,
        resume=_resume(record) if state in ("killed", "stopped", "failed") else None,
    )


def _resume(record: Mapping[str, Any]) -> str | None:
    """The run's own command, from where it was given, with the flag that recipes have for it."""
    told = record.get("command")
    if not told:
        return None
    asked = str(told) if "--resume" in shlex.split(str(told)) else f"{told} --resume"
    home = record.get("folder")
    return asked if not home or home == os.getcwd() else f"cd {shlex.quote(str(home))} && {asked}"


def _progress(row: Row) -> str:
    if row.steps is None:
        return ""
    told = f"{row.step or 0:,}/{row.steps:,}"
    return f"{row.stage} {told}" if row.stage else told


def _best(best: Mapping[str, Any] | None) -> str:
    return "" if not best else f"{best['metric']} {best['value']:.4g} (step {best['step']:,})"
