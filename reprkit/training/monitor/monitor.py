"""What keeps watch over a loop: it stops a run that is sick, and tells once of signs that it may become so."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from reprkit.errors import TrainingError
from reprkit.models.factor import Factor
from reprkit.training.monitor import non_finite
from reprkit.training.monitor.diagnostics import RankMonitor, TrainingHealthWarning
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.training.loop_iterator import Loop

LAST = 2**62  # no run has so many steps
LOOK_EVERY = 50  # steps between two looks for symptoms


class Monitor:
    """The watch over one loop.

    Attributes:
        problem: what was found on this process; None while all is well.
        saved: the step of the newest saved state; 0 before any.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.non_finite: non_finite.NonFinite | None = None
        self.saved = 0
        self._paths: dict[str, Factor] = dict(loop.model.factors.items())
        self._ranks = {name: RankMonitor() for name, path in self._paths.items() if path.latent.vocab is None}
        self._noted: set[str] = set()

    # ------------------------------------------------------------------ what stops the run

    def on_non_finite(self, problem: non_finite.NonFinite, batch: Batch) -> None:
        """A loss or gradient is not finite.  Alone one stops at once; ranks stop together after the step."""
        train_state = self._loop.train_state
        alone = train_state.engine.ranks == 1
        examples = train_state.example_indices()
        found = problem.origin or non_finite.find_origin(
            self._loop.model, batch, rerun=alone, indices=examples
        )
        problem = replace(problem, origin=found)
        if alone:
            self.fail(problem)
        self.non_finite = self.non_finite or problem

    def alarm(self) -> int:
        """A flag of which the largest names the first step at fault; 0 when all is well."""
        return 0 if self.non_finite is None else LAST - self.non_finite.step

    def check(self, alarm: int) -> None:
        """Stop when a rank has raised the alarm."""
        if not alarm:
            return
        step, own = LAST - alarm, self.non_finite
        elsewhere = non_finite.NonFinite(step, float("nan"), origin="another process has seen it")
        self.fail(own if own is not None and own.step == step else elsewhere)

    def fail(self, problem: non_finite.NonFinite) -> NoReturn:
        """Write down what happened and which examples were in the step's batch (over all ranks), and stop."""
        writer, train_state = self._loop.writer, self._loop.train_state
        folder = writer.state_folder
        indices = train_state.order.whole(problem.step).tolist()
        text = problem.message(folder, self.saved if self.saved and folder is not None else None, indices)
        details = {"step": problem.step, "indices": indices}
        if problem.terms:
            details["terms"] = list(problem.terms)
        if problem.origin:
            details["origin"] = problem.origin
        writer.close(problem.step, "failed", text, details)
        raise TrainingError(text)

    # ------------------------------------------------------------------ what is told once

    def run_diagnostics(self, step: int) -> None:
        """Look for symptoms; every so many steps, so that a resumed run sees what the undisturbed one does."""
        for seen in self._loop.train_state.value_monitor.take_diagnostics():
            self._tell(step, f"norm {seen.what}", seen.text, step=seen.step)
        for name, path in self._paths.items():
            if path.usage.complaint:  # warned of already, where it was seen
                self._note(step, f"collapse {name}", path.usage.complaint)
            latest = path.usage.latest
            lost = self._ranks[name].update(*latest) if name in self._ranks and latest is not None else None
            if lost is not None:
                self._tell(step, f"rank {name}", _rank_message(path.usage.name, *lost))

    def state_dict(self) -> dict[str, Any]:
        """What is remembered from one look to the next, as JSON."""
        ranks = {name: [each.low, each.warned] for name, each in self._ranks.items()}
        return {"norms": self._loop.train_state.value_monitor.state_dict(), "ranks": ranks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self._loop.train_state.value_monitor.load_state_dict(state.get("norms", {}))
        for name, (low, told) in state.get("ranks", {}).items():
            if name in self._ranks:
                self._ranks[name].low, self._ranks[name].warned = low, told

    def _tell(self, now: int, key: str, text: str, *, step: int | None = None) -> None:
        if self._note(now if step is None else step, key, text) and self._loop.train_state.engine.rank == 0:
            warnings.warn(text, TrainingHealthWarning, stacklevel=6)

    def _note(self, step: int, key: str, text: str) -> bool:
        """Into the run's record, each but once; whether it is new."""
        if key in self._noted:
            return False
        self._noted.add(key)
        return self._loop.writer.note(step, key, text)


def _rank_message(name: str, rank: float, width: int) -> str:
    return (
        f"{name} has lost its rank: the codes of a batch vary in {rank:.1f} of {width} dimensions (effective rank). Try a lower "
        "lr=, a lower weight on what holds codes together (a KL weight, an L1, an alignment), a larger batch=, or fewer dimensions."
    )
