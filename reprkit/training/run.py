"""A run's folder, read: ``run.json``, ``metrics.jsonl``, ``results.json``, ``model/``; and the helpers that write them.

::

    OUT/run.json        what was run: command, seed, versions, data, options, status, times
    OUT/metrics.jsonl   a line a log: {"step", "seconds", "loss", "lr", "terms": {}, "metrics": {}, "results": {}}
    OUT/results.json    what rk.evaluate returned, without its figures
    OUT/figures.npz     what else the report shows, so that it can be made again
    OUT/model/          the trained model, for rk.load
    OUT/best/           the best one by a metric, for rk.load (rk.loop(best=...))
    OUT/state/          what resuming needs
"""

from __future__ import annotations

import json
import math
import numbers
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.errors import TrainingError
from reprkit.filenames import METRICS, MODEL, RECORD, RESULTS
from reprkit.folders import write_text

if TYPE_CHECKING:
    from reprkit.model import Model


class Run:
    """A run: its model, its logged metrics and its results, from memory or from its folder.

    Attributes:
        out: the folder; None for a run that kept nothing.
    """

    def __init__(
        self,
        out: str | Path | None,
        model: Model | None = None,
        metrics: list[dict[str, Any]] | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        self.out = None if out is None else Path(out)
        self._model, self._metrics, self._results = model, metrics, results
        if self.out is not None and model is None and not (self.out / RECORD).exists():
            raise TrainingError(f"{self.out} is not a run: it has no {RECORD}")

    @property
    def model(self) -> Model:
        """The trained model, read from ``OUT/model`` the first time it is asked for; in evaluation mode.

        Raises:
            CheckpointError: the run saved none.
        """
        if self._model is None:
            from reprkit.checkpoint import load

            assert self.out is not None
            self._model = load(self.out / MODEL)
        return self._model

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged lines, in order; a line cut short by a crash is left out."""
        if self.out is None:
            return list(self._metrics or [])
        return read_metrics(self.out)

    @property
    def results(self) -> Mapping[str, Any]:
        """What was evaluated at the end: ``results["knn"]["accuracy"]``; empty when nothing was."""
        if self._results is None:
            self._results = {} if self.out is None else read_results(self.out)
        return self._results

    @property
    def record(self) -> dict[str, Any]:
        """``run.json``; empty for a run that kept nothing."""
        return {} if self.out is None else read_record(self.out)

    @property
    def status(self) -> str:
        """What became of it: "running", "finished", "failed", "stopped", or "killed" when its process is gone without a word."""
        record = self.record
        return "finished" if not record else status_of(record)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best model kept (by the last stage that kept one, in ``OUT/best``): metric, end ("min" or "max"), value, step."""
        stages = self.record.get("stages") or {}
        return next((each["best"] for each in reversed(list(stages.values())) if each.get("best")), None)

    def curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """Every logged number over the steps: ``curves()["loss"]``, ``["terms.kl"]``, ``["results.knn.accuracy"]``."""
        return curves(self.metrics)

    def __repr__(self) -> str:
        return f"Run({str(self.out)!r}, {self.status})" if self.out else "Run(in memory)"


def read_record(out: str | Path) -> dict[str, Any]:
    """``run.json``; an empty dict when there is none.

    Raises:
        TrainingError: it is damaged.
    """
    return _read_json(Path(out) / RECORD)


def read_results(out: str | Path) -> dict[str, Any]:
    """``results.json``; an empty dict when there is none."""
    return _read_json(Path(out) / RESULTS)


def read_metrics(out: str | Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; an empty list when there is none."""
    path = Path(out) / METRICS
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:  # the last line of a killed run
            continue
    return lines


def last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a file of JSON lines, however long the file is; an empty dict when there is none."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL))
        tail = file.read().decode("utf-8", errors="replace")
    for text in reversed(tail.splitlines()):
        try:
            found = json.loads(text)
        except ValueError:  # cut at its beginning, or not yet written to its end
            continue
        if isinstance(found, dict):
            return found
    return {}


def write_results(out: str | Path, results: Mapping[str, Any]) -> Path:
    """Write ``results.json``: the numbers and texts of (nested) results; arrays and figures are left out."""
    place = Path(out)
    place.mkdir(parents=True, exist_ok=True)
    return write_text(place / RESULTS, json.dumps(plain(results), indent=1) + "\n")


def write_record(out: str | Path, record: Mapping[str, Any]) -> Path:
    """Write ``run.json``."""
    return write_text(Path(out) / RECORD, json.dumps(record, indent=1, default=str) + "\n")


def status_of(record: Mapping[str, Any]) -> str:
    """The status that a record states, or "killed" when it says running and its process is gone (on this machine)."""
    status = str(record.get("status", "unknown"))
    if status == "running" and record.get("host") == socket.gethostname() and not _alive(record.get("pid")):
        return "killed"
    return status


def curves(metrics: list[dict[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    """Every logged number as (steps, values); nested names are joined by dots."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for line in metrics:
        for name, value in flat(line).items():
            if name != "step":
                steps, values = found.setdefault(name, ([], []))
                steps.append(int(line.get("step", 0)))
                values.append(value)
    return found


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a nested record, by names joined with dots."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{name}."))
        elif isinstance(value, numbers.Real) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found


def plain(value: Any) -> Any:
    """What JSON can hold of (nested) results: numbers, texts, and dicts of them; what is not finite becomes null.

    Tensors and arrays of one element are numbers; whatever else there is (figures) is left out.
    """
    if isinstance(value, Mapping):
        kept = {str(name): plain(each) for name, each in value.items() if name != "figures"}
        return {name: each for name, each in kept.items() if each is not _LEFT_OUT}
    if getattr(value, "size", None) == 1 or (callable(getattr(value, "numel", None)) and value.numel() == 1):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return _LEFT_OUT


_LEFT_OUT = object()
_TAIL = 1 << 16  # bytes, more than a line has


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path} is damaged: {error}") from error


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
