"""Writing a run's folder while it trains: ``run.json`` and ``metrics.jsonl``.  Rank 0 writes; the others do nothing."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprkit.errors import TrainingError
from reprkit.runs import filenames
from reprkit.runs.environment import command, now, versions
from reprkit.runs.json_lines import JsonLinesFile
from reprkit.runs.reader import read_record, status_of
from reprkit.runs.run import write_record
from reprkit.utils.atomic_files import explain_os_error

# Distinguishes this process's runs from those of an earlier process with the same number.
SESSION = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
REPLACED = ".replaced"
WAITS = ("data", "saves")


class RunWriter:
    """The record and the metrics of one run (or of one stage of it).

    Args:
        out: the run's folder; None keeps the metrics in memory only.
        stage: the name of the stage, in a run of several.
        writes: whether this process writes (rank 0).

    Attributes:
        position: steps that are complete.
        waited: seconds of this run (stage) spent waiting for data, and for saves.
    """

    def __init__(self, out: str | Path | None, *, stage: str | None = None, writes: bool = True) -> None:
        self.out = None if out is None else Path(out)
        self.stage, self.name, self.writes = stage, stage or "main", writes and out is not None
        self.lines: list[dict[str, Any]] = []
        self.open, self.position = False, 0
        self.waited = dict.fromkeys(WAITS, 0.0)
        self._record: dict[str, Any] = {}
        self._file = None if self.out is None else JsonLinesFile(self.out / filenames.METRICS)
        self._complained = False
        self._seconds_before, self._started, self._told = 0.0, time.monotonic(), 0.0

    @property
    def state_folder(self) -> Path | None:
        """Where this stage's state is kept."""
        if self.out is None:
            return None
        return self.out / filenames.STATE / self.stage if self.stage else self.out / filenames.STATE

    @property
    def best_folder(self) -> Path | None:
        """Where the best model of this stage is kept."""
        if self.out is None:
            return None
        return self.out / filenames.BEST / self.stage if self.stage else self.out / filenames.BEST

    @property
    def seconds(self) -> float:
        """Time spent on this run (stage) so far, before resuming too."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def waiting(self) -> dict[str, float]:
        """The shares of that time spent waiting, in [0, 1]."""
        total = max(self.seconds, 1e-9)
        return {name: round(spent / total, 4) for name, spent in self.waited.items()}

    def told(self) -> dict[str, Any]:
        """What the folder's record tells of this stage: status, step, the best model."""
        record = {} if self.out is None else read_record(self.out)
        return record.get("stages", {}).get(self.name, {})

    def clear_the_way(self) -> None:
        """Before starting anew: what an earlier run left here moves to ``OUT/.replaced``.

        A stage that this very process has not run yet is added to its run.
        """
        if not self.writes or self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        record = read_record(self.out)
        if record.get("session") == SESSION and self.name not in record.get("stages", {}):
            return
        self._refuse_company(record)
        left = [
            self.out / each
            for each in (
                filenames.RECORD,
                filenames.METRICS,
                filenames.RESULTS,
                filenames.PAGE,
                filenames.FIGURES,
                filenames.MODEL,
                filenames.BEST,
                filenames.STATE,
            )
        ]
        left = [each for each in left if each.exists()]
        if not left:
            return
        attic = self.out / REPLACED
        shutil.rmtree(attic, ignore_errors=True)
        attic.mkdir()
        for each in left:
            each.rename(attic / each.name)
        stopped = record.get("stages", {}).get(self.name, {})
        if stopped.get("status") not in (None, "finished") and stopped.get("saved"):
            warnings.warn(
                f"{self.out} held a run saved at step {stopped['saved']} of {stopped.get('steps')}; it was moved to {attic}, to be "
                "kept until the next start. resume=True would have gone on with it.",
                stacklevel=4,
            )

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
    ) -> None:
        """Open the run, cutting the metrics back to what they were when the state was saved.

        Args:
            steps: of the stage.
            facts: what ``run.json`` states of it.
            position: the step at which it goes on.
            seconds: spent before.
            size: of ``metrics.jsonl`` then, in bytes.
            waited: how much of that time was waiting.
            best: the best model so far.
        """
        self._seconds_before, self._started = seconds, time.monotonic()
        self.waited = {name: float((waited or {}).get(name, 0.0)) for name in WAITS}
        if not self.writes or self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        assert self._file is not None
        self._file.begin(size)
        earlier = read_record(self.out)
        self._refuse_company(earlier)
        moment, resumed = now(), list(earlier.get("resumed", []))
        if position:
            resumed.append({"at": moment, "step": position})
        stages = dict(earlier.get("stages", {}))
        before = stages.get(self.name, {})
        stages[self.name] = {
            **{key: value for key, value in facts.items() if key != "data"},
            "steps": steps,
            "started": before.get("started", moment),
            "saved": position or None,
            **({"best": dict(best)} if best else {}),
        }
        self._record = {
            "command": command(),
            "folder": os.getcwd(),
            "status": "running",
            "started": earlier.get("started", moment),
            **({"resumed": resumed} if position else {}),
            "versions": versions(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "session": SESSION,
            **{key: facts[key] for key in ("seed", "data") if key in facts},
            **({"warnings": earlier["warnings"]} if earlier.get("warnings") else {}),
            "stages": stages,
        }
        self.open = True
        self.tell(position, "running", force=True)
        # A body that raises cannot be told from one that breaks; how the process ends can.
        atexit.register(self._at_exit)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one line of metrics."""
        kept = {key: value for key, value in line.items() if value not in ({}, None)}
        if self.stage:
            kept["stage"] = self.stage
        self.lines.append(kept)
        if self.writes and self._file is not None:
            try:
                self._file.append(kept)
            except OSError as error:
                self._complain(filenames.METRICS, error)
            self.tell(int(line["step"]), "running")

    def size(self) -> int | None:
        """Bytes of ``metrics.jsonl``, flushed to the disk.

        Raises:
            TrainingError: it cannot be written.
        """
        if not self.writes or self._file is None:
            return None
        try:
            return self._file.size()
        except OSError as error:
            raise TrainingError(f"cannot write {self._file.path}: {explain_os_error(error)}") from error

    def note(self, step: int, about: str, text: str) -> bool:
        """Keep a warning in the record, each ``about`` once a run (stage); whether it is new."""
        here = {"stage": self.stage} if self.stage else {}
        told = self._record.setdefault("warnings", []) if self.open else []
        if any((each.get("about"), each.get("stage")) == (about, self.stage) for each in told):
            return False
        told.append({"step": step, "about": about, "text": text, **here})
        self.tell(self.position, "running", force=True)
        return True

    def restate(self, data: Mapping[str, Any]) -> None:
        """Describe the data anew: a stream learns as it goes what it leaves out."""
        if self.open:
            self._record["data"] = dict(data)

    def keep_best(self, best: Mapping[str, Any]) -> None:
        """Note which model is the best so far."""
        if self.open:
            self._record["stages"][self.name]["best"] = dict(best)
            self.tell(self.position, "running", force=True)

    def tell(
        self,
        step: int,
        status: str,
        *,
        saved: bool = False,
        error: str | None = None,
        force: bool = False,
        failure: Mapping[str, Any] | None = None,
    ) -> None:
        """Note where the run is, at most every few seconds unless it matters."""
        if not self.open:
            return
        moment = time.monotonic()
        if not (force or saved or error or status != "running") and moment - self._told < 5:
            return
        self._told = moment
        stage = self._record["stages"][self.name]
        stage.update(status=status, step=step, seconds=round(self.seconds, 3), waiting=self.waiting)
        if saved:
            stage["saved"] = step
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
            self._complain(filenames.RECORD, error)

    def close(
        self,
        step: int,
        status: str,
        error: str | None = None,
        failure: Mapping[str, Any] | None = None,
    ) -> None:
        """The end of the run: "finished", "failed" or "stopped"; what is known of a failure is kept."""
        if self.open:
            self.tell(step, status, error=error, force=True, failure=failure)
            if status != "stopped":
                self.open = False
                atexit.unregister(self._at_exit)

    def _complain(self, name: str, error: OSError) -> None:
        """Once: what is not written now is written when there is room again."""
        if not self._complained:
            self._complained = True
            warnings.warn(
                f"cannot write {self.out}/{name}: {explain_os_error(error)}; training goes on, and it is tried again",
                stacklevel=5,
            )

    def _refuse_company(self, record: Mapping[str, Any]) -> None:
        here = record.get("host") == socket.gethostname() and record.get("session") != SESSION
        if here and status_of(record) == "running":
            raise TrainingError(
                f"process {record.get('pid')} is training into {self.out} right now: give another out=, or stop it"
            )

    def _at_exit(self) -> None:
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        if self.open and isinstance(error, Exception):
            self.tell(self.position, "failed", error=f"{type(error).__name__}: {error}")
        self.open = False
