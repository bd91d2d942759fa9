"""Reader of a run's folder for its page; missing or damaged files become notes, not errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprkit.errors import TrainingError
from reprkit.runs import environment
from reprkit.runs.filenames import METRICS, RESULTS
from reprkit.runs.reader import describe_steps, read_run
from reprkit.runs.spread import spread_of

_MAX_POINTS = 400  # of a curve; longer ones are averaged in groups
_NO_CURVES = ("seconds", "epoch", "data_wait")  # numbers of a log line about time, which are not drawn


@dataclass
class RunHistory:
    """Record and curves of a run.

    Attributes:
        record: ``run.json``; empty without one.
        curves: series -> (steps, values), such as "loss", "terms.kl", "results.knn.accuracy".
        deviations: series -> standard deviation over seeds at each step, where the curves are means of several runs.
        notes: sentences about what is missing or could not be read.
    """

    record: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    deviations: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_run_history(folder: Path) -> RunHistory:
    """Read the run in ``folder``; an empty history with a note if there is none."""
    run = read_run(folder)
    history = RunHistory({**run.record, "status": run.status} if run.record else {})
    for name, (steps, values) in run.curves().items():
        if name not in _NO_CURVES:
            history.curves[name] = _downsample(sorted(dict(zip(steps, values, strict=True)).items()))
    history.notes += [f"{fault}." for name, fault in run.faults.items() if name != RESULTS]
    if not history.curves:
        history.notes.append(f"No curves: nothing was logged (no {METRICS} in the run's folder).")
    return history


def average_histories(histories: Sequence[RunHistory]) -> RunHistory:
    """Mean and standard deviation of the curves of runs that differ in their seed, at the steps that all have."""
    result = RunHistory(
        dict(histories[0].record),
        notes=list(dict.fromkeys(note for each in histories for note in each.notes)),
    )
    for name in histories[0].curves:
        if not all(name in each.curves for each in histories):
            continue
        found = [dict(zip(*each.curves[name], strict=True)) for each in histories]
        steps = [step for step in found[0] if all(step in each for each in found)]
        if steps:
            spreads = [spread_of(each[step] for each in found) for step in steps]
            result.curves[name] = (steps, [spread.mean for spread in spreads])
            result.deviations[name] = [
                0.0 if math.isnan(spread.deviation) else spread.deviation for spread in spreads
            ]
    return result


def read_or_note(read: Callable[[], Any], notes: list[str]) -> Any:
    """The result of ``read``; None, and a note, if the file is damaged."""
    try:
        return read()
    except TrainingError as error:
        notes.append(f"{error}.")
        return None


def describe_process() -> dict[str, Any]:
    """Command and versions of the current process, for a run without a record."""
    return {"command": environment.command(), "versions": environment.versions()}


def describe_run(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record as facts to show: command, seed, status, steps, time, versions."""
    stages = dict(record.get("stages") or {})
    seconds = sum(stage.get("seconds") or 0 for stage in stages.values())
    facts = {
        "command": record.get("command"),
        "seed": record.get("seed"),
        "status": record.get("status"),
        "error": record.get("error"),
        "steps": _describe_steps(stages),
        "best": _describe_stages(
            stages, "best", lambda best: f"{best['metric']} {best['value']:.4g} at step {best['step']:,}"
        ),
        "time": format_duration(seconds) if seconds else None,
        "waiting": _describe_stages(
            stages,
            "waiting",
            lambda shares: ", ".join(f"{share:.1%} of the time for {name}" for name, share in shares.items()),
        ),
        "started": record.get("started"),
        "versions": ", ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items())
        or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def format_duration(seconds: float) -> str:
    """Format seconds as ``42 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _describe_steps(stages: Mapping[str, Mapping[str, Any]]) -> str | None:
    described = {name: describe_steps(stage) for name, stage in stages.items()}
    texts = {name: text for name, text in described.items() if text is not None}
    if list(texts) == ["main"]:
        return texts["main"]
    return ", ".join(f"{name} {text}" for name, text in texts.items()) or None


def _describe_stages(
    stages: Mapping[str, Mapping[str, Any]], key: str, describe: Callable[[Any], str]
) -> str | None:
    """Describe an entry of every stage that has it, with the stages' names if there are several."""
    texts = {name: describe(stage[key]) for name, stage in stages.items() if stage.get(key)}
    if list(stages) == ["main"]:
        return texts.get("main")
    return "; ".join(f"{name} {text}" for name, text in texts.items()) or None


def _downsample(points: list[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Reduce a curve to at most _MAX_POINTS points, each the mean of a group of neighbors."""
    width = max(1, math.ceil(len(points) / _MAX_POINTS))
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    return (
        [sum(step for step, _ in group) / len(group) for group in groups],
        [sum(value for _, value in group) / len(group) for group in groups],
    )
