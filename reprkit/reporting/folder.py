"""Reading a run's folder for its page; what is missing or damaged is said, not raised."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprkit.errors import TrainingError
from reprkit.runs.filenames import METRICS, RESULTS
from reprkit.runs.reader import read_run

_POINTS = 400  # of a curve; longer ones are averaged
_NO_CURVES = ("seconds", "epoch", "data_wait")  # numbers of a log line that say when, not how well


@dataclass
class Trace:
    """What a run left behind.

    Attributes:
        record: ``run.json``; empty without one.
        curves: series -> (steps, values): "loss", "terms.kl", "results.knn.accuracy".
        notes: what is missing or could not be read, in plain words.
    """

    record: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_trace(folder: Path) -> Trace:
    """The run in ``folder``; an empty one, with a note, where there is nothing."""
    run = read_run(folder)
    trace = Trace({**run.record, "status": run.status} if run.record else {})
    for name, (steps, values) in run.curves().items():
        if name not in _NO_CURVES:
            trace.curves[name] = _thinned(sorted(dict(zip(steps, values, strict=True)).items()))
    trace.notes += [f"{fault}." for name, fault in run.faults.items() if name != RESULTS]
    total = trace.curves.get("loss")
    for name in [each for each in trace.curves if each.startswith("terms.")]:
        if trace.curves[name] == total:  # the only term is the loss itself
            del trace.curves[name]
    if not trace.curves:
        trace.notes.append(f"No curves: nothing was logged (no {METRICS} in the run's folder).")
    return trace


def readable(read: Callable[[], Any], notes: list[str]) -> Any:
    """What ``read`` gives; None, and a note, where the file is damaged."""
    try:
        return read()
    except TrainingError as error:
        notes.append(f"{error}.")
        return None


def this_process() -> dict[str, Any]:
    """Command and versions of the process that makes the page, for a run that left no record of its own."""
    from reprkit.runs.environment import versions

    arguments = list(sys.orig_argv)
    return {"command": shlex.join([Path(arguments[0]).name, *arguments[1:]]), "versions": versions()}


def facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as lines to read: command, seed, status, steps, time, versions."""
    stages = dict(record.get("stages") or {})
    seconds = sum(stage.get("seconds") or 0 for stage in stages.values())
    named = {
        "command": record.get("command"),
        "seed": record.get("seed"),
        "status": record.get("status"),
        "error": record.get("error"),
        "steps": _steps(stages),
        "best": _each(
            stages, "best", lambda best: f"{best['metric']} {best['value']:.4g} at step {best['step']:,}"
        ),
        "time": duration(seconds) if seconds else None,
        "waiting": _each(
            stages,
            "waiting",
            lambda shares: ", ".join(f"{share:.1%} of the time for {name}" for name, share in shares.items()),
        ),
        "started": record.get("started"),
        "versions": ", ".join(f"{name} {each}" for name, each in (record.get("versions") or {}).items())
        or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _steps(stages: Mapping[str, Mapping[str, Any]]) -> str | None:
    told = {}
    for name, stage in stages.items():
        done, wanted = stage.get("step"), stage.get("steps")
        if isinstance(wanted, int):
            told[name] = f"{wanted:,}" if done in (None, wanted) else f"{done:,} of {wanted:,}"
    if list(told) == ["main"]:
        return told["main"]
    return ", ".join(f"{name} {each}" for name, each in told.items()) or None


def _each(stages: Mapping[str, Mapping[str, Any]], what: str, say: Callable[[Any], str]) -> str | None:
    """A fact of every stage that has it, under the stage's name where there are several."""
    told = {name: say(stage[what]) for name, stage in stages.items() if stage.get(what)}
    if list(stages) == ["main"]:
        return told.get("main")
    return "; ".join(f"{name} {each}" for name, each in told.items()) or None


def _thinned(points: list[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """At most _POINTS of them, each the mean of its neighbours."""
    width = max(1, math.ceil(len(points) / _POINTS))
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return (
        [sum(step for step, _ in group) / len(group) for group in groups],
        [sum(value for _, value in group) / len(group) for group in groups],
    )
