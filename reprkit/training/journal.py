"""Writing a run's folder while it trains: ``run.json`` and ``metrics.jsonl``.  Rank 0 writes; the others do nothing."""

from __future__ import annotations

import atexit
import json
import os
import platform
import shlex
import shutil
import socket
import sys
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reprkit import filenames
from reprkit.errors import TrainingError
from reprkit.training import run as files

# Distinguishes this process's runs from those of an earlier process with the same number.
SESSION = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
REPLACED = ".replaced"


class Journal:
    """The record and the metrics of one run (or of one stage of it).

    Args:
        out: the run's folder; None keeps the metrics in memory only.
        stage: the name of the stage, in a run of several.
        writes: whether this process writes (rank 0).

    Attributes:
        position: steps that are complete.
    """

    def __init__(self, out: str | Path | None, *, stage: str | None = None, writes: bool = True) -> None:
        self.out = None if out is None else Path(out)
        self.stage, self.writes = stage, writes and out is not None
        self.lines: list[dict[str, Any]] = []
        self.open, self.position = False, 0
        self._record: dict[str, Any] = {}
        self._seconds_before, self._started, self._told = 0.0, time.monotonic(), 0.0

    @property
    def state_folder(self) -> Path | None:
        """Where this stage's state is kept."""
        if self.out is None:
            return None
        return self.out / filenames.STATE / self.stage if self.stage else self.out / filenames.STATE

    @property
    def seconds(self) -> float:
        """Time spent on this run (stage) so far, before resuming too."""
        return self._seconds_before + time.monotonic() - self._started

    def clear_the_way(self) -> None:
        """Before starting anew: what an earlier run left here moves to ``OUT/.replaced``.

        A stage that this very process has not run yet is added to its run.
        """
        if not self.writes or self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        record = files.read_record(self.out)
        name = self.stage or "main"
        if record.get("session") == SESSION and name not in record.get("stages", {}):
            return
        self._refuse_company(record)
        left = [
            self.out / each
            for each in (
                filenames.RECORD,
                filenames.METRICS,
                filenames.RESULTS,
                filenames.PAGE,
                filenames.MODEL,
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
        stopped = record.get("stages", {}).get(name, {})
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
    ) -> None:
        """Open the run, cutting the metrics back to what they were when the state was saved.

        Args:
            steps: of the stage.
            facts: what ``run.json`` states of it.
            position: the step at which it goes on.
            seconds: spent before.
            size: of ``metrics.jsonl`` then, in bytes.
        """
        self._seconds_before, self._started = seconds, time.monotonic()
        if not self.writes or self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / filenames.METRICS
        if size is not None and path.exists():
            if path.stat().st_size < size:
                raise TrainingError(
                    f"{path} is shorter than when the state was saved: it was changed, so it cannot be continued"
                )
            os.truncate(path, size)
        path.touch()
        earlier = files.read_record(self.out)
        self._refuse_company(earlier)
        now = _now()
        stages = dict(earlier.get("stages", {}))
        before = stages.get(self.stage or "main", {})
        stages[self.stage or "main"] = {
            **{key: value for key, value in facts.items() if key != "data"},
            "steps": steps,
            "started": before.get("started", now),
            "saved": position or None,
        }
        self._record = {
            "command": _command(),
            "folder": os.getcwd(),
            "status": "running",
            "started": earlier.get("started", now),
            **({"resumed": [*earlier.get("resumed", []), {"at": now, "step": position}]} if position else {}),
            "versions": versions(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "session": SESSION,
            **{key: facts[key] for key in ("seed", "data") if key in facts},
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
        if self.writes and self.out is not None:
            with (self.out / filenames.METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(kept) + "\n")
            self.tell(int(line["step"]), "running")

    def size(self) -> int | None:
        """Bytes of ``metrics.jsonl``, flushed to the disk."""
        if not self.writes or self.out is None:
            return None
        with (self.out / filenames.METRICS).open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def tell(
        self,
        step: int,
        status: str,
        *,
        saved: bool = False,
        error: str | None = None,
        force: bool = False,
        **details: Any,
    ) -> None:
        """Note where the run is, at most every few seconds unless it matters."""
        if not self.open:
            return
        now = time.monotonic()
        if not (force or saved or error or status != "running") and now - self._told < 5:
            return
        self._told = now
        stage = self._record["stages"][self.stage or "main"]
        stage.update(status=status, step=step, seconds=round(self.seconds, 3))
        if saved:
            stage["saved"] = step
        self._record.update(
            status=status,
            **({} if status == "running" else {"ended": _now()}),
            **({"error": error} if error else {}),
            **({"failure": {"step": step, **details}} if details else {}),
        )
        assert self.out is not None
        files.write_record(self.out, self._record)

    def close(self, step: int, status: str, error: str | None = None, **details: Any) -> None:
        """The end of the run: "finished", "failed" or "stopped"; ``details`` of a failure are kept."""
        if self.open:
            self.tell(step, status, error=error, force=True, **details)
            if status != "stopped":
                self.open = False
                atexit.unregister(self._at_exit)

    def _refuse_company(self, record: Mapping[str, Any]) -> None:
        here = record.get("host") == socket.gethostname() and record.get("session") != SESSION
        if here and files.status_of(record) == "running":
            raise TrainingError(
                f"process {record.get('pid')} is training into {self.out} right now: give another out=, or stop it"
            )

    def _at_exit(self) -> None:
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        if self.open and isinstance(error, Exception):
            self.tell(self.position, "failed", error=f"{type(error).__name__}: {error}")
        self.open = False


def versions() -> dict[str, str]:
    """Of Python, torch, the CUDA runtime and device, and every plugin distribution."""
    import torch

    from reprkit.plugins import default_registry

    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    if torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
        found["gpu"] = torch.cuda.get_device_name()
    found.update({row.distribution: row.version for row in default_registry().rows if row.status == "ok"})
    return found


def _command() -> str:
    """The command line of this process, ready to be typed again."""
    arguments = list(getattr(sys, "orig_argv", [])) or [sys.executable, *sys.argv]
    return shlex.join([Path(arguments[0]).name, *arguments[1:]])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
