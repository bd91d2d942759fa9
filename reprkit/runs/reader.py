"""A run read from its folder: the only place that opens ``run.json``, ``metrics.jsonl`` and ``results.json``.  Torch-free.

``read_run`` never fails: what is missing is empty, and what is damaged is named in ``notes``.  The functions that read one file
raise TrainingError for a damaged one.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprkit.errors import ReprkitError, TrainingError
from reprkit.runs.filenames import BEST, FIGURES, METRICS, MODEL, RECORD, RESULTS, STATE
from reprkit.runs.metrics import finite_metrics, flatten_metrics

FILES = (RECORD, METRICS, RESULTS, FIGURES)  # any of them makes a folder worth a page
_INSIDE = {MODEL, STATE, BEST}  # of a run: no runs are looked for in there
_TAIL = 1 << 16  # bytes, more than a line has


@dataclass
class StoredRun:
    """What a run's folder says.

    Attributes:
        folder: of the run; None where there is none, such as beside a checkpoint that was saved by itself.
        record: ``run.json``; empty without one.
        results: ``results.json``; empty without one.
        last_line: the last whole line of ``metrics.jsonl``; empty without one.
        metrics: what was measured at the end, as numbers by name: the results, or the last line where there are none.
        source: the file from which ``metrics`` were read.
        faults: name of a file -> why it could not be read.
    """

    folder: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    last_line: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    source: str = ""
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What could not be read, in words."""
        return list(self.faults.values())

    @property
    def status(self) -> str:
        """See ``status_of``."""
        return status_of(self.record)

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Name -> what the record states of a stage; a run of one stage calls it "main"."""
        return self.record.get("stages") or {}

    @property
    def stage(self) -> str | None:
        """Where the run is: the last stage that has not finished, else the last one."""
        unfinished = [name for name, each in self.stages.items() if each.get("status") != "finished"]
        return next(reversed(unfinished or list(self.stages)), None)

    @property
    def seconds(self) -> float:
        """Spent so far, over all stages."""
        return sum(each.get("seconds") or 0 for each in self.stages.values())

    @property
    def best(self) -> dict[str, Any] | None:
        """See ``best_of``."""
        return best_of(self.record)

    @property
    def resume_command(self) -> str | None:
        """The run's own command, from where it was given, with the flag that recipes have for it; None where none is recorded."""
        given = self.record.get("command")
        if not given:
            return None
        asked = str(given) if "--resume" in shlex.split(str(given)) else f"{given} --resume"
        home = self.record.get("folder")
        return asked if not home or home == os.getcwd() else f"cd {shlex.quote(str(home))} && {asked}"

    def curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """Every logged number over the steps; see ``curves``."""
        if self.folder is None:
            return {}
        lines, damaged = _lines(self.folder / METRICS)
        if damaged:
            self.faults[METRICS] = (
                f"{self.folder / METRICS} is damaged: lines {_listed(damaged)} cannot be read"
            )
        return curves(lines)


def read_run(folder: str | Path) -> StoredRun:
    """The run in a folder, as far as it can be read; an empty one where there is nothing."""
    place = Path(folder)
    run = StoredRun(place)
    run.record = _tried(run, RECORD, lambda: read_record(place))
    run.results = _tried(run, RESULTS, lambda: read_results(place))
    run.last_line = _tried(run, METRICS, lambda: read_last_line(place))
    run.metrics, run.source = _tried(run, RESULTS, lambda: flatten_metrics(run.results)), RESULTS
    if not run.metrics:
        run.metrics, run.source = _tried(run, METRICS, lambda: flatten_metrics(run.last_line)), METRICS
    return run


def run_of(checkpoint: Path) -> StoredRun:
    """The run that a checkpoint belongs to: from its own folder, or from the one above ``model`` or ``best``.

    Of the best model kept, the metrics are the one by which it was chosen: the results are those of the model at the end.
    """
    kept = next((each for each in (checkpoint, checkpoint.parent) if each.name == BEST), None)
    inner = kept or (checkpoint if checkpoint.name == MODEL else None)
    places = [checkpoint, *([inner.parent] if inner is not None else [])]
    place = next((each for each in places if _holds(each, (RECORD, METRICS, RESULTS))), None)
    if place is None:
        return StoredRun()
    run = read_run(place)
    if kept is not None:
        stage = "main" if kept == checkpoint else checkpoint.name
        best = run.stages.get(stage, {}).get("best") or {}
        run.metrics = {best["metric"]: best["value"]} if best else {}
        run.source = f"{RECORD}, step {best.get('step')}"
    return run


def is_run(folder: str | Path) -> bool:
    """Whether a folder holds anything of a run, or of a comparison of runs."""
    return _holds(Path(folder), FILES)


def find_runs(folder: str | Path) -> Iterator[Path]:
    """The folders of runs in and below a folder, sorted; hidden ones (what was replaced) are left out."""
    for place, inner, files in os.walk(folder):
        own = RECORD in files
        inner[:] = sorted(
            each for each in inner if not each.startswith(".") and not (own and each in _INSIDE)
        )
        if own:
            yield Path(place)


# ------------------------------------------------------------------ one file


def read_record(out: str | Path) -> dict[str, Any]:
    """``run.json``; an empty dict when there is none.

    Raises:
        TrainingError: it is damaged.
    """
    return _object(Path(out) / RECORD)


def read_results(out: str | Path) -> dict[str, Any]:
    """``results.json``; an empty dict when there is none.

    Raises:
        TrainingError: it is damaged.
    """
    return _object(Path(out) / RESULTS)


def read_metrics(out: str | Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl`` that can be read; an empty list when there is none."""
    return _lines(Path(out) / METRICS)[0]


def read_last_line(out: str | Path) -> dict[str, Any]:
    """The last whole line of ``metrics.jsonl``, however long the file is; an empty dict when there is none."""
    path = Path(out) / METRICS
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL))
        tail = file.read()
    for text in reversed(tail.splitlines()):
        found = _line(text)
        if found is not None:
            return found
    return {}


# ------------------------------------------------------------------ what a record says


def status_of(record: Mapping[str, Any]) -> str:
    """The status that a record states, or "killed" when it says running and its process is gone (on this machine)."""
    status = str(record.get("status", "unknown"))
    if status == "running" and record.get("host") == socket.gethostname() and not _alive(record.get("pid")):
        return "killed"
    return status


def best_of(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The best model kept (by the last stage that kept one): metric, end ("min" or "max"), value, step."""
    stages = record.get("stages") or {}
    return next((each["best"] for each in reversed(list(stages.values())) if each.get("best")), None)


def curves(lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    """Every logged number that is finite as (steps, values), by its names joined with dots."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        for name, value in finite_metrics(line).items():
            if name != "step":
                steps, values = found.setdefault(name, ([], []))
                steps.append(int(line.get("step", 0)))
                values.append(float(value))
    return found


# ------------------------------------------------------------------ pieces


def _tried(run: StoredRun, name: str, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``read`` gives; an empty dict, and a fault of the file, where it cannot be read."""
    try:
        return read()
    except (ReprkitError, OSError) as error:
        run.faults[name] = str(error)
    return {}


def _holds(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / each).is_file() for each in names)


def _object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise TrainingError(f"{path} is damaged: it holds a {type(found).__name__}, not an object")
    return found


def _lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines that can be read, and the numbers of those that cannot; one cut short at the end counts as neither."""
    lines, damaged = list[dict[str, Any]](), list[int]()
    if not path.exists():
        return lines, damaged
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            found = _line(text)
            if found is not None:
                lines.append(found)
            elif text.endswith(b"\n") and text.strip():
                damaged.append(number)
    return lines, damaged


def _line(text: bytes) -> dict[str, Any] | None:
    """A line's object; None when it is damaged, not yet written to its end, or cut at its beginning."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return ", ".join(map(str, numbers[:5])) + more


def _alive(pid: Any) -> bool:
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, TypeError, ValueError):
        return False
    except PermissionError:
        return True
    return True
