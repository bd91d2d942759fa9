"""``Run``, what training returns, and the helpers that write a run's folder; ``reprkit.runs.reader`` reads it.

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
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.errors import TrainingError
from reprkit.runs.filenames import MODEL, RECORD, RESULTS
from reprkit.runs.metrics import to_json_value
from reprkit.runs.reader import best_of, curves, read_metrics, read_record, read_results, status_of
from reprkit.utils.atomic_files import write_text

if TYPE_CHECKING:
    from reprkit.models.model import Model


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
            from reprkit.checkpoints.save_load import load

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
        return best_of(self.record)

    def curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """Every logged number over the steps: ``curves()["loss"]``, ``["terms.kl"]``, ``["results.knn.accuracy"]``."""
        return curves(self.metrics)

    def __repr__(self) -> str:
        return f"Run({str(self.out)!r}, {self.status})" if self.out else "Run(in memory)"


def write_results(out: str | Path, results: Mapping[str, Any]) -> Path:
    """Write ``results.json``: the numbers and texts of (nested) results; arrays and figures are left out."""
    place = Path(out)
    place.mkdir(parents=True, exist_ok=True)
    return write_text(place / RESULTS, json.dumps(to_json_value(results), indent=1) + "\n")


def write_record(out: str | Path, record: Mapping[str, Any]) -> Path:
    """Write ``run.json``."""
    return write_text(Path(out) / RECORD, json.dumps(record, indent=1, default=str) + "\n")
