"""Save the best model so far by a named metric."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from reprkit.errors import CheckpointError, TrainingError, nearest
from reprkit.interfaces import require
from reprkit.runs.metric_direction import better_direction
from reprkit.runs.metrics import flatten_metrics
from reprkit.utils import collectives

if TYPE_CHECKING:
    from reprkit.models.model import Model

KINDS = (
    "results",
    "metrics",
    "terms",
)  # sections of a line of metrics, in the order in which a short name is looked up
_NOTHING, _SAVE, _UNKNOWN = 0, 1, 2


@dataclass(frozen=True)
class Goal:
    """A metric and whether lower or higher values are better.

    Attributes:
        metric: name in a line of metrics: "loss", "kl", "reconstruction.error", "results.knn.accuracy"; of a
            probe always in full, "probes.knn.accuracy".
        end: "min" or "max", the better end.
    """

    metric: str
    end: Literal["min", "max"]

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Parse ``"min reconstruction.error"``; the name alone suffices if its better end is known, as for ``"knn.accuracy"``.

        Raises:
            PartArgumentError: the text has another form, or the better end is unknown.
        """
        require(
            isinstance(text, str) and len(text.split()) in (1, 2),
            f"best must be 'min NAME' or 'max NAME', such as 'min reconstruction.error', not {text!r}",
        )
        first, *rest = text.split()
        if rest:
            ends: dict[str, Literal["min", "max"]] = {"min": "min", "max": "max"}
            require(first in ends, f"best={text!r}: must begin with min or max, not {first!r}")
            return cls(rest[0], ends[first])
        known = better_direction(first.removeprefix("results.").removeprefix("probes."))
        require(
            known is not None,
            f"best={text!r}: it is unknown whether lower or higher {first} is better; write 'min {first}' or 'max {first}'",
        )
        assert known is not None
        return cls(first, known)

    def lookup(self, line: Mapping[str, Any]) -> tuple[bool, float]:
        """Return whether a line of metrics has the metric, and its value; NaN if that is not finite."""
        named = measured_numbers(line)
        for name in (self.metric, *(f"{kind}.{self.metric}" for kind in KINDS)):
            if name in named:
                return True, named[name]
        return False, math.nan

    def is_better(self, value: float, other: float | None) -> bool:
        """Return whether a value is better than another one; NaN never is, and any other value is better than None."""
        if math.isnan(value):
            return False
        return other is None or (value < other if self.end == "min" else value > other)

    def __str__(self) -> str:
        return f"{self.end} {self.metric}"


def measured_numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """Flatten a line's measurements by name; a value that was not finite is None in the line and NaN here."""
    sections = {key: line[key] for key in ("loss", *KINDS, "probes") if key in line}
    return flatten_metrics(sections)


class BestModel:
    """Keep the best model of a run in its own folder.

    Args:
        text: the goal, see ``Goal.parse``.
        folder: where the model is saved.
        model: the model that is saved.

    Attributes:
        current: ``{"metric", "end", "value", "step"}`` of the saved model; None before the first one.
    """

    def __init__(self, text: str, folder: Path, model: Model) -> None:
        self.goal, self.folder, self.model = Goal.parse(text), folder, model
        self.current: dict[str, Any] | None = None
        self._seen = False

    def restore(self, *records: Mapping[str, Any] | None) -> None:
        """Continue from the better of the given records (saved state, run record) of this metric and end.

        The run record may be ahead of the state, since the best model is saved immediately.
        """
        for record in records:
            if record and (record.get("metric"), record.get("end")) == (self.goal.metric, self.goal.end):
                self._seen = True
                if self.goal.is_better(
                    float(record["value"]), None if self.current is None else self.current["value"]
                ):
                    self.current = dict(record)

    def consider(self, line: Mapping[str, Any], device: torch.device) -> bool:
        """Save the model if this line has the best value so far; return whether it was saved.  All ranks must call it.

        Rank 0's line decides.  If the model cannot be written, a warning is given and the older one is kept.

        Raises:
            TrainingError: a line with results does not have the metric, and no line had it before.
        """
        found, value = self.goal.lookup(line)
        self._seen = self._seen or found
        verdict = _NOTHING
        if found and self.goal.is_better(value, None if self.current is None else self.current["value"]):
            verdict = _SAVE
        elif not self._seen and line.get("results") and not self.goal.metric.startswith("probes."):
            verdict = _UNKNOWN
        verdict = _broadcast_verdict(verdict, device)
        if verdict == _UNKNOWN:
            raise TrainingError(self._unknown_metric(line))
        if verdict != _SAVE:
            return False
        try:
            self.model.save(self.folder)
        except CheckpointError as error:
            if error.__cause__ is None:  # not a disk error
                raise
            warnings.warn(f"the best model so far was not saved: {error}\n  training continues", stacklevel=5)
            return False
        self.current = {
            "metric": self.goal.metric,
            "end": self.goal.end,
            "value": value,
            "step": int(line["step"]),
        }
        return True

    def finish(self) -> None:
        """Warn at the end of a run if the metric never occurred."""
        if not self._seen:
            warnings.warn(
                f"best={str(self.goal)!r}: no line of metrics had {self.goal.metric}, so no model was saved; "
                "step.log(losses, rk.evaluate(...)) logs results",
                stacklevel=3,
            )

    def _unknown_metric(self, line: Mapping[str, Any]) -> str:
        known = measured_numbers(line)
        short = {name.removeprefix("results.") for name in known} | set(known)
        return (
            f"best={str(self.goal)!r}: these results have no {self.goal.metric}.{nearest(self.goal.metric, short)}\n"
            f"  logged here: {', '.join(known)}\n"
            "  the first results passed to step.log must contain it"
        )


def _broadcast_verdict(verdict: int, device: torch.device) -> int:
    """Return rank 0's verdict on all ranks."""
    lowest = float("-inf")  # of the other processes, so that the maximum is that of rank 0
    mine = torch.tensor(float(verdict) if collectives.is_main() else lowest, device=device)
    return int(collectives.max_over_processes(mine))
