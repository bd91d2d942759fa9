"""Read a run from its folder: ``run.json``, ``metrics.jsonl`` and ``results.json``.  Does not import torch.

No other module opens these files.  ``read_run`` never fails: missing files give empty values, and damaged ones are listed in
``notes``.  The functions that read a single file raise TrainingError if it is damaged.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from reprkit.errors import ReprkitError, TrainingError, nearest
from reprkit.runs.filenames import BEST, FIGURES, METRICS, MODEL, PROBE_FIGURES, RECORD, RESULTS, STATE
from reprkit.runs.lock import is_locked
from reprkit.runs.metrics import finite_metrics, flatten_metrics
from reprkit.runs.record_check import check_record, check_results
from reprkit.utils.untrusted_json import MAX_BYTES, parse_json, read_json

FILES = (RECORD, METRICS, RESULTS, FIGURES, PROBE_FIGURES)  # a folder with any of them can be reported
_SUBFOLDERS = {MODEL, STATE, BEST}  # of a run; not searched for other runs
_TAIL = 1 << 16  # bytes read from the end; longer than any line


@dataclass
class StoredRun:
    """The contents of a run's folder.

    Attributes:
        folder: of the run; None if there is none, as for a checkpoint saved on its own.
        record: ``run.json``; empty without one.
        results: ``results.json``; empty without one.
        last_line: the last complete line of ``metrics.jsonl``; empty without one.
        metrics: final metrics as numbers by name: the results, or the last logged line without results.
        source: the file from which ``metrics`` were read.
        faults: file name -> reason why it could not be read.
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
        """Messages about files that could not be read."""
        return list(self.faults.values())

    @property
    def status(self) -> str:
        """See ``status_of``."""
        return status_of(self.record, self.folder)

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Stage name -> its record; the only stage of a run is called "main"."""
        return self.record.get("stages") or {}

    @property
    def stage(self) -> str | None:
        """The current stage: the last one that is not finished, otherwise the last one."""
        unfinished = [name for name, record in self.stages.items() if record.get("status") != "finished"]
        return next(reversed(unfinished or list(self.stages)), None)

    @property
    def seconds(self) -> float:
        """Time spent so far, in seconds, over all stages."""
        return sum(record.get("seconds") or 0 for record in self.stages.values())

    @property
    def best(self) -> dict[str, Any] | None:
        """See ``best_of``."""
        return best_of(self.record)

    @property
    def resume_command(self) -> str | None:
        """The run's command with ``--out`` and ``--resume``, after ``cd`` to its folder if needed; None if it has no such flags."""
        command, recipe = self.record.get("command"), self.recipe
        if not command:
            return None
        words = str(command).split()
        missing = [] if "--resume" in words else ["--resume"]
        if missing and not recipe.get("resumable"):
            return None
        if recipe.get("out") and not any(word == "--out" or word.startswith("--out=") for word in words):
            missing.insert(0, f"--out {shlex.quote(str(recipe['out']))}")
        if "--overwrite" in words:
            command = re.sub(r" --overwrite(?= |$)", "", str(command))
        home = self.record.get("folder")
        resumed = " ".join([str(command), *missing])
        return resumed if not home or home == os.getcwd() else f"cd {shlex.quote(str(home))} && {resumed}"

    @property
    def resume_advice(self) -> str:
        """What to do to resume the run: its command, or a sentence."""
        command = self.resume_command
        if command is not None:
            return command
        started = self.record.get("command")
        by = f" (it was started by: {started})" if started else ""
        return f"pass resume=True and the same out= to its rk.loop or rk.fit{by}"

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe that made the run, as ``run.json`` records it; empty if that is not known."""
        return (self.record.get("source") or {}).get("recipe") or {}

    def curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """Return all logged numbers over the steps; see ``curves``."""
        if self.folder is None:
            return {}
        lines, damaged = _read_lines(self.folder / METRICS)
        if damaged:
            self.faults[METRICS] = (
                f"{self.folder / METRICS} is damaged: lines {_join_numbers(damaged)} cannot be read"
            )
        return curves(lines)


def read_run(folder: str | Path) -> StoredRun:
    """Read as much of the run in a folder as possible; empty if there is none."""
    path = Path(folder)
    run = StoredRun(path)
    run.record = _read_or_note_fault(run, RECORD, lambda: read_record(path))
    run.results = _read_or_note_fault(run, RESULTS, lambda: read_results(path))
    run.last_line = _read_or_note_fault(run, METRICS, lambda: read_last_line(path))
    run.metrics, run.source = _read_or_note_fault(run, RESULTS, lambda: flatten_metrics(run.results)), RESULTS
    if not run.metrics:
        run.metrics, run.source = (
            _read_or_note_fault(run, METRICS, lambda: flatten_metrics(run.last_line)),
            METRICS,
        )
    return run


def run_of(checkpoint: Path) -> StoredRun:
    """Read the run that a checkpoint belongs to, from its own folder or from the parent of ``model`` or ``best``.

    For a best model, the metrics are only the one that selected it, since the results are those of the final model.
    """
    best_folder = next((path for path in (checkpoint, checkpoint.parent) if path.name == BEST), None)
    subfolder = best_folder or (checkpoint if checkpoint.name == MODEL else None)
    candidates = [checkpoint, *([subfolder.parent] if subfolder is not None else [])]
    folder = next((path for path in candidates if _contains_any(path, (RECORD, METRICS, RESULTS))), None)
    if folder is None:
        return StoredRun()
    run = read_run(folder)
    if best_folder is not None:
        stage = "main" if best_folder == checkpoint else checkpoint.name
        best = run.stages.get(stage, {}).get("best") or {}
        run.metrics = {best["metric"]: best["value"]} if best else {}
        run.source = f"{RECORD}, step {best.get('step')}"
    return run


def is_run(folder: str | Path) -> bool:
    """Whether a folder contains any file of a run, or of a comparison of runs."""
    return _contains_any(Path(folder), FILES)


def require_run(folder: str | Path) -> None:
    """Check that a folder is that of a run, or of a comparison of runs.

    Raises:
        TrainingError: there is no such folder, or it has no file of a run; the message names near ones.
    """
    path = Path(folder)
    if not path.is_dir():
        siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise TrainingError(f"there is no folder {path}.{nearest(path.name, siblings)}")
    if not is_run(path):
        runs = [str(run) for run in islice(find_runs(path), 5)]
        below = f"\n  runs below it: {', '.join(runs)}" if runs else "\n  to list runs: reprkit runs FOLDER"
        raise TrainingError(f"{path} is not a run: it has none of {', '.join(FILES)}{below}")


def find_runs(folder: str | Path) -> Iterator[Path]:
    """Find the folders of runs in and below a folder, sorted; hidden folders (replaced runs) are skipped."""
    for path, subfolders, files in os.walk(folder):
        is_run_folder = RECORD in files
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and not (is_run_folder and name in _SUBFOLDERS)
        )
        if is_run_folder:
            yield Path(path)


# ------------------------------------------------------------------ single files


def read_record(out: str | Path) -> dict[str, Any]:
    """Read ``run.json``; an empty dict if it does not exist.

    Raises:
        TrainingError: it is damaged.
    """
    return _read_object(Path(out) / RECORD, check_record)


def read_results(out: str | Path) -> dict[str, Any]:
    """Read ``results.json``; an empty dict if it does not exist.

    Raises:
        TrainingError: it is damaged.
    """
    return _read_object(Path(out) / RESULTS, check_results)


def read_metrics(out: str | Path) -> list[dict[str, Any]]:
    """Read the intact lines of ``metrics.jsonl``; an empty list if it does not exist."""
    return _read_lines(Path(out) / METRICS)[0]


def read_last_line(out: str | Path) -> dict[str, Any]:
    """Read the last complete line of ``metrics.jsonl`` from the end of the file; an empty dict if there is none."""
    path = Path(out) / METRICS
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL))
        tail = file.read()
    for text in reversed(tail.splitlines()):
        line = _parse_line(text)
        if line is not None:
            return line
    return {}


# ------------------------------------------------------------------ derived values


def status_of(record: Mapping[str, Any], folder: str | Path | None = None) -> str:
    """Return the recorded status, or "killed" if it is "running" but no process of this machine trains into the folder.

    The lock of the folder decides; where there is none, as in runs of earlier versions, the process id does.
    """
    status = str(record.get("status", "unknown"))
    if status == "running" and record.get("host") == socket.gethostname():
        locked = None if folder is None else is_locked(folder)
        alive = _is_alive(record.get("pid")) if locked is None else locked
        return status if alive else "killed"
    return status


def best_of(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the best model saved (by the last stage that saved one): metric, end ("min" or "max"), value, step."""
    stages = record.get("stages") or {}
    return next((stage["best"] for stage in reversed(list(stages.values())) if stage.get("best")), None)


def describe_steps(stage: Mapping[str, Any]) -> str | None:
    """Return the steps of a stage's record, ``60``, or ``39 of 60`` if it is incomplete; None if none are recorded."""
    done, total = stage.get("step"), stage.get("steps")
    if not isinstance(total, int):
        return None
    return f"{done:,} of {total:,}" if isinstance(done, int) and done != total else f"{total:,}"


def describe_field(field: Mapping[str, Any]) -> tuple[str, str, str | None, int | None]:
    """Return kind, shape, range and number of symbols of a field of a recorded signature; None for what it does not have."""
    shape = " × ".join("any" if size is None else str(size) for size in field["shape"]) or "one number"
    span = " to ".join(f"{end:g}" for end in field["range"]) if field.get("range") else None
    return field["kind"], shape, span, field.get("vocab")


def describe_classes(signature: Mapping[str, Any], most: int = 20) -> list[str]:
    """Return a line for each label of a recorded signature with named classes: ``label: 0 cat, 1 dog``."""
    lines = []
    for name, record in signature.items():
        classes = record.get("classes") or ()
        shown = ", ".join(f"{number} {each}" for number, each in enumerate(classes[:most]))
        if classes:
            lines.append(
                f"{name}: {shown}" + (f" and {len(classes) - most} more" if len(classes) > most else "")
            )
    return lines


def curves(lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    """Return (steps, values) of every finite logged number, by name; nested names are joined by dots."""
    result: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        numbers = finite_metrics(line)
        step = numbers.pop("step", 0)
        if abs(step) >= 2**63:
            continue
        for name, value in numbers.items():
            steps, values = result.setdefault(name, ([], []))
            steps.append(int(step))
            values.append(float(value))
    return result


# ------------------------------------------------------------------ helpers


def _read_or_note_fault(run: StoredRun, name: str, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what ``read`` returns; if it fails, record the file's fault and return an empty dict."""
    try:
        return read()
    except (ReprkitError, OSError) as error:
        run.faults[name] = str(error)
    return {}


def _contains_any(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _read_object(path: Path, check: Callable[[Any], None]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not an object")
        check(content)
    except (ValueError, OSError) as error:
        raise TrainingError(f"{path} is damaged: {error}") from error
    return content


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the intact lines and the numbers of damaged ones; a truncated last line counts as neither."""
    lines, damaged = list[dict[str, Any]](), list[int]()
    if not path.is_file():
        return lines, damaged
    with path.open("rb") as file:
        for number, text in enumerate(iter(lambda: file.readline(MAX_BYTES + 1), b""), 1):
            line = _parse_line(text)
            if line is not None:
                lines.append(line)
            elif text.endswith(b"\n") and text.strip():
                damaged.append(number)
    return lines, damaged


def _parse_line(text: bytes) -> dict[str, Any] | None:
    """Parse a line's object; None if it is damaged, or incomplete at its beginning or end."""
    try:
        content = parse_json(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _join_numbers(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return ", ".join(map(str, numbers[:5])) + more


def _is_alive(pid: Any) -> bool:
    if os.name == "nt":  # on Windows, signal 0 is Ctrl-C
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, TypeError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
