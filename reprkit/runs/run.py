"""``Run``, the return value of training, and functions that write a run's folder; ``reprkit.runs.reader`` reads it.

::

    OUT/run.json        the record: command, seed, versions, data, options, status, times
    OUT/metrics.jsonl   one line for each log: {"step", "seconds", "loss", "lr", "terms": {}, "metrics": {}, "results": {}}
    OUT/results.json    the results of rk.evaluate, without figures
    OUT/figures.npz     the report's figures, so that it can be rendered again
    OUT/model/          the trained model, for rk.load
    OUT/best/           the best model by a metric, for rk.load (rk.loop(best=...))
    OUT/state/          the state for resuming
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.errors import TrainingError
from reprkit.runs.filenames import MODEL, RECORD, RESULTS
from reprkit.runs.metrics import finite_metrics, format_significant, to_json_value
from reprkit.runs.reader import (
    best_of,
    curves,
    describe_steps,
    read_metrics,
    read_record,
    read_results,
    status_of,
)
from reprkit.runs.results import results_html
from reprkit.utils.atomic_files import write_text
from reprkit.utils.plain_table import html_table

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Run:
    """A training run: its model, logged metrics and results, from memory or from its folder.

    Attributes:
        out: the folder; None for a run that wrote no files.
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
        """The trained model in evaluation mode, read from ``OUT/model`` on first access.

        Raises:
            CheckpointError: the run saved no model.
        """
        if self._model is None:
            from reprkit.checkpoints.save_load import load

            assert self.out is not None
            self._model = load(self.out / MODEL)
        return self._model

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged lines, in order; a line truncated by a crash is omitted."""
        if self.out is None:
            return list(self._metrics or [])
        return read_metrics(self.out)

    @property
    def results(self) -> Mapping[str, Any]:
        """Results of the final evaluation, ``results["knn"]["accuracy"]``; empty without one."""
        if self._results is None:
            self._results = {} if self.out is None else read_results(self.out)
        return self._results

    @property
    def record(self) -> dict[str, Any]:
        """The content of ``run.json``; empty for a run that wrote no files."""
        return {} if self.out is None else read_record(self.out)

    @property
    def status(self) -> str:
        """Status: "running", "finished", "failed", "stopped", or "killed" if its process ended without recording a status."""
        record = self.record
        return "finished" if not record else status_of(record, self.out)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best model saved (by the last stage that saved one, in ``OUT/best``): metric, end, value, step."""
        return best_of(self.record)

    def curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """All logged numbers over the steps: ``curves()["loss"]``, ``["terms.kl"]``, ``["results.knn.accuracy"]``."""
        return curves(self.metrics)

    def _repr_html_(self) -> str:
        """Return status, folder, steps and the last logged numbers, for a notebook; then the results."""
        record, lines = self.record, self.metrics
        stages = record.get("stages") or {}
        steps = ", ".join(text for stage in stages.values() if (text := describe_steps(stage)))
        facts = {
            "folder": "in memory" if self.out is None else str(self.out),
            "status": self.status,
            "started": record.get("started"),
            "steps": steps or (lines[-1].get("step") if lines else None),
        }
        rows = [[name, str(value)] for name, value in facts.items() if value]
        if lines:
            last = {**finite_metrics(lines[-1])}
            rows += [[f"last {name}", format_significant(last[name])] for name in last if name != "step"]
        table = html_table(["run", ""], rows)
        return table + (results_html(self.results) if self.results else "")

    def __repr__(self) -> str:
        return f"Run({str(self.out)!r}, {self.status})" if self.out else "Run(in memory)"


def write_results(out: str | Path, results: Mapping[str, Any]) -> Path:
    """Write ``results.json``: the numbers and strings of (nested) results, without arrays and figures."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    return write_text(folder / RESULTS, results_text(results))


def results_text(results: Mapping[str, Any]) -> str:
    """Return the content of ``results.json``."""
    return json.dumps(to_json_value(results), indent=1) + "\n"


def write_record(out: str | Path, record: Mapping[str, Any]) -> Path:
    """Write ``run.json``."""
    return write_text(Path(out) / RECORD, json.dumps(record, indent=1, default=str) + "\n")
