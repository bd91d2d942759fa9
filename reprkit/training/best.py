"""The best model so far by a named metric: what counts as better, and where it is kept."""

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
from reprkit.runs.metric_direction import better
from reprkit.runs.metrics import flat
from reprkit.utils import collectives

if TYPE_CHECKING:
    from reprkit.models.model import Model

KINDS = (
    "results",
    "metrics",
    "terms",
)  # of the numbers in a line, in the order in which a short name is looked for
_NOTHING, _SAVE, _UNKNOWN = 0, 1, 2


@dataclass(frozen=True)
class Goal:
    """A metric and which end of it is the better one.

    Attributes:
        metric: its name in a line of metrics: "loss", "kl", "reconstruction.error", "results.knn.accuracy".
        end: "min" or "max".
    """

    metric: str
    end: Literal["min", "max"]

    @classmethod
    def parse(cls, text: str) -> Goal:
        """From ``"min reconstruction.error"``; of a name whose better end is known, such as ``"knn.accuracy"``, that will do.

        Raises:
            PartArgumentError: not a text of this form, or the end is not known.
        """
        require(
            isinstance(text, str) and len(text.split()) in (1, 2),
            f"best is 'min NAME' or 'max NAME', such as 'min reconstruction.error', not {text!r}",
        )
        first, *rest = text.split()
        if rest:
            ends: dict[str, Literal["min", "max"]] = {"min": "min", "max": "max"}
            require(first in ends, f"best={text!r}: it begins with min or max, not {first!r}")
            return cls(rest[0], ends[first])
        known = better(first.removeprefix("results."))
        require(
            known is not None,
            f"best={text!r}: whether less or more of {first} is better is not known; say 'min {first}' or 'max {first}'",
        )
        assert known is not None
        return cls(first, known)

    def lookup(self, line: Mapping[str, Any]) -> tuple[bool, float]:
        """Whether a line of metrics has it, and its value there; NaN for one that is not finite."""
        named = measured_numbers(line)
        for name in (self.metric, *(f"{kind}.{self.metric}" for kind in KINDS)):
            if name in named:
                return True, named[name]
        return False, math.nan

    def is_better(self, value: float, other: float | None) -> bool:
        """Whether a value is better than another one; NaN never is, and anything else is better than None."""
        if math.isnan(value):
            return False
        return other is None or (value < other if self.end == "min" else value > other)

    def __str__(self) -> str:
        return f"{self.end} {self.metric}"


def measured_numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """What a line measured, by name; what was not finite is None in a line, and NaN here."""
    kept = {key: line[key] for key in ("loss", *KINDS) if key in line}
    return flat(kept)


class BestModel:
    """Keeps the best model of a run in a folder of its own.

    Args:
        text: of the goal, see ``Goal.parse``.
        folder: where the model goes.
        model: what is saved.

    Attributes:
        now: ``{"metric", "end", "value", "step"}`` of the model kept; None while there is none.
    """

    def __init__(self, text: str, folder: Path, model: Model) -> None:
        self.goal, self.folder, self.model = Goal.parse(text), folder, model
        self.current: dict[str, Any] | None = None
        self._seen = False

    def restore(self, *told: Mapping[str, Any] | None) -> None:
        """Go on from what the state and the record tell: the better of them, where they speak of this very metric.

        The record may be ahead of the state, since the best model is saved at once.
        """
        for each in told:
            if each and (each.get("metric"), each.get("end")) == (self.goal.metric, self.goal.end):
                self._seen = True
                if self.goal.is_better(
                    float(each["value"]), None if self.current is None else self.current["value"]
                ):
                    self.current = dict(each)

    def consider(self, line: Mapping[str, Any], device: torch.device) -> bool:
        """Save the model if this line says that it is the best so far; whether it was.  Every rank must call it.

        Rank 0's line decides.  A model that cannot be written is warned of, and the older one stays.

        Raises:
            TrainingError: a line with results does not have the metric, and no line had it before.
        """
        found, value = self.goal.lookup(line)
        self._seen = self._seen or found
        verdict = _NOTHING
        if found and self.goal.is_better(value, None if self.current is None else self.current["value"]):
            verdict = _SAVE
        elif not self._seen and line.get("results"):
            verdict = _UNKNOWN
        verdict = _broadcast_verdict(verdict, device)
        if verdict == _UNKNOWN:
            raise TrainingError(self._unknown_metric(line))
        if verdict != _SAVE:
            return False
        try:
            self.model.save(self.folder)
        except CheckpointError as error:
            if error.__cause__ is None:  # not the disk's fault
                raise
            warnings.warn(f"the best model so far was not kept: {error}\n  training goes on", stacklevel=5)
            return False
        self.current = {
            "metric": self.goal.metric,
            "end": self.goal.end,
            "value": value,
            "step": int(line["step"]),
        }
        return True

    def finish(self) -> None:
        """At the end of a run: say when the metric was never there."""
        if not self._seen:
            warnings.warn(
                f"best={str(self.goal)!r}: no line of metrics had {self.goal.metric}, so no model was kept; "
                "step.log(losses, rk.evaluate(...)) brings results",
                stacklevel=5,
            )

    def _unknown_metric(self, line: Mapping[str, Any]) -> str:
        known = measured_numbers(line)
        short = {name.removeprefix("results.") for name in known} | set(known)
        return (
            f"best={str(self.goal)!r}: these results have no {self.goal.metric}.{nearest(self.goal.metric, short)}\n"
            f"  logged here: {', '.join(known)}\n"
            "  the first results that step.log gets must have it"
        )


def _broadcast_verdict(verdict: int, device: torch.device) -> int:
    """Rank 0's verdict, on all ranks."""
    if collectives.world_size() == 1:
        return verdict
    mine = torch.tensor(float(verdict if collectives.rank() == 0 else 0), device=device)
    return int(collectives.sum_over_ranks(mine))
