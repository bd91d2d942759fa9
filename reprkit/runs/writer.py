"""Write ``run.json`` and ``metrics.jsonl`` of a run during training.  Only rank 0 writes."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reprkit.errors import TrainingError
from reprkit.runs import filenames
from reprkit.runs.contents import describe_content, files_of_run, has_content
from reprkit.runs.environment import command, now, versions
from reprkit.runs.json_lines import JsonLinesFile
from reprkit.runs.lock import RunLock
from reprkit.runs.origin import record_origin
from reprkit.runs.reader import read_record
from reprkit.runs.run import write_record
from reprkit.utils.atomic_files import explain_os_error

# Distinguishes runs of this process from those of an earlier process with the same process id.
SESSION = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
REPLACED = ".replaced"
WAITS = ("data", "saves")


class RunWriter:
    """Writer of the record and metrics of one run, or of one stage of a run.

    Args:
        out: the run's folder; None keeps the metrics in memory only.
        stage: the name of the stage, in a run of several.
        writes: whether this process writes (rank 0).

    Attributes:
        position: number of completed steps.
        waited: seconds of this run (stage) spent waiting for data, for saves, and for probes where there are any.
    """

    def __init__(self, out: str | Path | None, *, stage: str | None = None, writes: bool = True) -> None:
        self.out = None if out is None else Path(out)
        self.stage, self.name, self.writes = stage, stage or "main", writes and out is not None
        self.lines: list[dict[str, Any]] = []
        self.open, self.position = False, 0
        self.waited = dict.fromkeys(WAITS, 0.0)
        self._record: dict[str, Any] = {}
        self._file = None if self.out is None else JsonLinesFile(self.out / filenames.METRICS)
        self._lock: RunLock | None = None
        self._keeps_lock = self._stopped = self._warned = False
        self._seconds_before, self._started, self._last_update = 0.0, time.monotonic(), 0.0

    @property
    def state_folder(self) -> Path | None:
        """The folder of this stage's saved states."""
        if self.out is None:
            return None
        return self.out / filenames.STATE / self.stage if self.stage else self.out / filenames.STATE

    @property
    def best_folder(self) -> Path | None:
        """The folder of this stage's best model."""
        if self.out is None:
            return None
        return self.out / filenames.BEST / self.stage if self.stage else self.out / filenames.BEST

    @property
    def seconds(self) -> float:
        """Time spent on this run (stage) so far, including time before resuming."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def waiting(self) -> dict[str, float]:
        """Fractions of that time spent waiting, in [0, 1]."""
        total = max(self.seconds, 1e-9)
        return {name: round(spent / total, 4) for name, spent in self.waited.items()}

    def stage_record(self) -> dict[str, Any]:
        """Read this stage's entry of the folder's record: status, step, the best model."""
        record = {} if self.out is None else read_record(self.out)
        return record.get("stages", {}).get(self.name, {})

    @property
    def owned(self) -> bool:
        """Whether this process holds the lock of the run's folder; False also where the file system has none."""
        return self._lock is not None and self._lock.held

    def lock(self) -> None:
        """Make this process the owner of the run; nothing in its folder is read for resuming, or changed, before.

        Raises:
            TrainingError: another process owns it.
        """
        if self.writes and self.out is not None:
            self._lock = RunLock(self.out)
            self._lock.acquire()

    @contextmanager
    def keep_lock(self) -> Iterator[None]:
        """Context in which the run is owned also after its training has ended: while it is evaluated and reported."""
        self._keeps_lock = True
        try:
            yield
        finally:
            self._keeps_lock = False
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None and not self._keeps_lock:
            self._lock.release()

    def require_free(self, *, resume: bool, overwrite: bool) -> None:
        """Check that starting at step 0 replaces nothing that was not given up.

        That is so where the folder holds no run; where this process has started the run and this is a further stage of it; and on
        resuming, where nothing of this stage was saved.

        Raises:
            TrainingError: the folder holds a run, and neither ``overwrite`` nor ``resume`` says what to do; or the saved state of
                the run to resume is gone.
        """
        if not self.writes or self.out is None or overwrite or not has_content(self.out):
            return
        record = read_record(self.out)
        stages = record.get("stages", {})
        if record.get("session") == SESSION and self.name not in stages:
            return
        about = f"{self.out}{f', stage {self.stage},' if self.stage else ''}"
        if not resume:
            raise TrainingError(
                f"{self.out} holds a run: {describe_content(self.out)}\n"
                "  choose another out=, or resume=True to continue it, or overwrite=True to replace it"
            )
        saved = stages.get(self.name, {}).get("saved")
        if record and not saved:
            return
        found = (
            f"its {filenames.RECORD} says that the one of step {saved} was saved"
            if record
            else "it holds a run"
        )
        raise TrainingError(
            f"{about} has no state to resume from, although {found}: {describe_content(self.out)}\n"
            "  choose another out=, or overwrite=True to start at step 0 and replace it"
        )

    def move_earlier_run_aside(self) -> None:
        """Move the files of an earlier run to ``OUT/.replaced`` before a new run starts.

        Nothing is moved if this process started the run and has not run this stage yet: the stage is then added to that run.
        """
        if not self.writes or self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        record = read_record(self.out)
        if record.get("session") == SESSION and self.name not in record.get("stages", {}):
            return
        existing = files_of_run(self.out)
        if not existing:
            return
        replaced = self.out / REPLACED
        shutil.rmtree(replaced, ignore_errors=True)
        replaced.mkdir()
        for path in existing:
            path.rename(replaced / path.name)

    def begin(
        self,
        *,
        steps: int,
        facts: Mapping[str, Any],
        position: int = 0,
        seconds: float = 0.0,
        size: int | None = None,
        waited: Mapping[str, float] | None = None,
        best: Mapping[str, Any] | None = None,
        changes: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Start the run, truncating the metrics to their size when the state was saved.

        Args:
            steps: number of steps of the stage.
            facts: entries of ``run.json`` for the stage and, for ``seed`` and ``data``, for the run.
            position: the step from which training continues.
            seconds: time spent before.
            size: of ``metrics.jsonl`` when the state was saved, in bytes.
            waited: the part of that time spent waiting, in seconds.
            best: the best model so far.
            changes: of the settings since the state was saved; they hold from ``position`` on.
        """
        self._seconds_before, self._started = seconds, time.monotonic()
        self.waited = dict.fromkeys(WAITS, 0.0) | {name: float(each) for name, each in (waited or {}).items()}
        if not self.writes or self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        assert self._file is not None
        self._file.begin(size)
        earlier = read_record(self.out)
        if not position and self.name in earlier.get("stages", {}):  # it ended before anything was saved
            self._file.drop(lambda line: line.get("stage") == self.stage)
        moment, resumed = now(), list(earlier.get("resumed", []))
        if position:
            resumed.append(
                {
                    "at": moment,
                    "step": position,
                    **({"stage": self.stage} if self.stage else {}),
                    "command": command(),
                }
            )
        stages = dict(earlier.get("stages", {}))
        before = stages.get(self.name, {})
        history = [
            change for change in before.get("changes") or () if change["step"] <= position and position
        ]
        history += [{"step": position, "at": moment, **change} for change in changes]
        stages[self.name] = {
            **{key: value for key, value in facts.items() if key not in ("data", "recipe")},
            "steps": steps,
            **({"changes": history} if history else {}),
            "started": before.get("started", moment),
            "saved": position or None,
            **({"best": dict(best)} if best else {}),
        }
        self._record = {
            "command": command(),
            "folder": os.getcwd(),
            "status": "running",
            "started": earlier.get("started", moment),
            **({"resumed": resumed} if resumed else {}),
            "versions": versions(),
            **self._origin(earlier),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "session": SESSION,
            **{key: facts[key] for key in ("seed", "data") if key in facts},
            **({"warnings": earlier["warnings"]} if earlier.get("warnings") else {}),
            "stages": stages,
        }
        self.open = True
        self.update(position, "running", force=True)
        # An error in the loop's body looks like a ``break`` to the loop; the end of the process shows which it was.
        atexit.register(self._at_exit)

    def _origin(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """Record what made the run; the stages of one run share it."""
        assert self.out is not None
        if earlier.get("session") == SESSION and "source" in earlier:
            return {"source": earlier["source"]}
        try:
            return {"source": record_origin(self.out)}
        except OSError as error:
            self._warn_once(filenames.SOURCE, error)
            return {}

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one line of metrics."""
        nonempty = {key: value for key, value in line.items() if value not in ({}, None)}
        if self.stage:
            nonempty["stage"] = self.stage
        self.lines.append(nonempty)
        if self.writes and self._file is not None:
            try:
                self._file.append(nonempty)
            except OSError as error:
                self._warn_once(filenames.METRICS, error)
            self.update(int(line["step"]), "running")

    def size(self) -> int | None:
        """Return the size of ``metrics.jsonl`` in bytes, after flushing it to disk.

        Raises:
            TrainingError: it cannot be written.
        """
        if not self.writes or self._file is None:
            return None
        try:
            return self._file.size()
        except OSError as error:
            raise TrainingError(f"cannot write {self._file.path}: {explain_os_error(error)}") from error

    def record_warning(self, step: int, about: str, text: str) -> bool:
        """Add a warning to the record, once for each ``about`` and stage; return whether it is new."""
        stage = {"stage": self.stage} if self.stage else {}
        recorded = self._record.setdefault("warnings", []) if self.open else []
        if any((entry.get("about"), entry.get("stage")) == (about, self.stage) for entry in recorded):
            return False
        recorded.append({"step": step, "about": about, "text": text, **stage})
        self.update(self.position, "running", force=True)
        return True

    def update_data(self, data: Mapping[str, Any]) -> None:
        """Update the description of the data: a stream finds out during training which records it skips."""
        if self.open:
            self._record["data"] = dict(data)

    def record_best(self, best: Mapping[str, Any]) -> None:
        """Record the best model so far."""
        if self.open:
            self._record["stages"][self.name]["best"] = dict(best)
            self.update(self.position, "running", force=True)

    def update(
        self,
        step: int,
        status: str,
        *,
        saved: int | None = None,
        error: str | None = None,
        force: bool = False,
        failure: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the current step and status to the record, at most every 5 seconds unless forced or important.

        Args:
            step: number of completed steps.
            status: "running", "finished", "failed" or "stopped".
            saved: the step of a state that was saved.
            error: what ended the run.
            force: write in any case.
            failure: details of a failure.
        """
        if not self.open:
            return
        moment = time.monotonic()
        if (
            not (force or saved is not None or error or status != "running")
            and moment - self._last_update < 5
        ):
            return
        self._last_update = moment
        stage = self._record["stages"][self.name]
        stage.update(status=status, step=step, seconds=round(self.seconds, 3), waiting=self.waiting)
        if saved is not None:
            stage["saved"] = saved
        self._record.update(
            status=status,
            **({} if status == "running" else {"ended": now()}),
            **({"error": error} if error else {}),
            **({"failure": dict(failure)} if failure else {}),
        )
        assert self.out is not None
        try:
            write_record(self.out, self._record)
        except OSError as error:
            self._warn_once(filenames.RECORD, error)

    def close(
        self,
        step: int,
        status: str,
        error: str | None = None,
        failure: Mapping[str, Any] | None = None,
    ) -> None:
        """End the run with status "finished", "failed" or "stopped", record the details of a failure, and release the run."""
        if self.open and not (status == "stopped" and self._stopped):
            self._stopped = status == "stopped"
            self.update(step, status, error=error, force=True, failure=failure)
            if status != "stopped":
                self.open = False
                atexit.unregister(self._at_exit)
        self._unlock()

    def _warn_once(self, name: str, error: OSError) -> None:
        """Warn once that a file cannot be written; the data is written later, when there is space again."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"cannot write {self.out}/{name}: {explain_os_error(error)}; training goes on, and writing is retried",
                stacklevel=5,
            )

    def _at_exit(self) -> None:
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        if self.open and isinstance(error, Exception) and self._is_still_own():
            self.update(self.position, "failed", error=f"{type(error).__name__}: {error}")
        self.open = False

    def _is_still_own(self) -> bool:
        """Lock the run again; return whether no other process has continued or replaced it since it was stopped."""
        assert self.out is not None
        try:
            self.lock()
            return read_record(self.out).get("session") == SESSION
        except TrainingError:
            return False
