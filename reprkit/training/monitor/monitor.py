"""Monitor a loop: stop it at non-finite values, and warn once of each sign of trouble."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from reprkit.errors import TrainingError
from reprkit.models.factor import Factor
from reprkit.training.monitor import non_finite
from reprkit.training.monitor.diagnostics import RankMonitor, TrainingHealthWarning, effective_rank_of_field
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.training.loop_iterator import Loop

LAST = 2**62  # more than the steps of any run
LOOK_EVERY = 50  # steps between two runs of the diagnostics


class Monitor:
    """Monitor of one loop.

    Attributes:
        non_finite: the non-finite value found on this process; None if there is none.
        saved: the step of the newest saved state; 0 before the first one.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.non_finite: non_finite.NonFinite | None = None
        self.saved = 0
        self._factors: dict[str, Factor] = dict(loop.model.factors.items())
        self._ranks = {
            name: RankMonitor() for name, factor in self._factors.items() if factor.latent.vocab is None
        }
        self._noted: set[str] = set()

    # ------------------------------------------------------------------ non-finite values: the run stops

    def on_non_finite(self, problem: non_finite.NonFinite, batch: Batch) -> None:
        """Handle a non-finite loss or gradient.  A single process stops at once; ranks stop together after the step."""
        train_state = self._loop.train_state
        alone = train_state.engine.ranks == 1
        examples = train_state.example_indices()
        origin = problem.origin or non_finite.find_origin(
            self._loop.model, batch, rerun=alone, indices=examples
        )
        problem = replace(problem, origin=origin)
        if alone:
            self.fail(problem)
        self.non_finite = self.non_finite or problem

    def alarm(self) -> int:
        """Return a flag whose maximum over ranks names the first failed step; 0 if all values are finite."""
        return 0 if self.non_finite is None else LAST - self.non_finite.step

    def check(self, alarm: int) -> None:
        """Stop if any rank has raised the alarm."""
        if not alarm:
            return
        step, own = LAST - alarm, self.non_finite
        elsewhere = non_finite.NonFinite(step, float("nan"), origin="it occurred on another process")
        self.fail(own if own is not None and own.step == step else elsewhere)

    def fail(self, problem: non_finite.NonFinite) -> NoReturn:
        """Record the failure and the examples of the step's batch (over all ranks), and raise TrainingError."""
        writer, train_state = self._loop.writer, self._loop.train_state
        folder = writer.state_folder
        indices = train_state.order.global_batch(problem.step).tolist()
        text = problem.message(folder, self.saved if self.saved and folder is not None else None, indices)
        details = {"step": problem.step, "indices": indices}
        if problem.terms:
            details["terms"] = list(problem.terms)
        if problem.origin:
            details["origin"] = problem.origin
        writer.close(problem.step, "failed", text, details)
        raise TrainingError(text)

    # ------------------------------------------------------------------ diagnostics: warned of once

    def run_diagnostics(self, step: int) -> None:
        """Run the diagnostics; at fixed steps, so that a resumed run gives the same warnings as an uninterrupted one."""
        for diagnostic in self._loop.train_state.value_monitor.take_diagnostics():
            self._warn_once(step, f"norm {diagnostic.what}", diagnostic.text, step=diagnostic.step)
        for name, factor in self._factors.items():
            if factor.usage.complaint:  # the part itself has warned already
                self._record_once(step, f"collapse {name}", factor.usage.complaint)
            latest = factor.usage.latest
            if name not in self._ranks or latest is None:
                continue
            lost = self._ranks[name].update(*latest, input_rank=partial(self._input_rank, factor))
            if lost is not None:
                self._warn_once(step, f"rank {name}", _rank_message(factor.usage.name, *lost))

    def _input_rank(self, factor: Factor) -> float:
        """Return the effective rank of what a factor reads, in the step's last batch; infinite where it is not known."""
        batch, signature = self._loop.train_state.last_batch, self._loop.model.signature
        if batch is None or signature is None or factor.input not in batch:
            return math.inf
        view = factor.view(batch)
        grid = (1,) if factor.pool else factor.encoder.grid(view)
        return effective_rank_of_field(view["x"], signature[factor.input], grid, view.get("x_mask"))

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered between two checks, as JSON."""
        ranks = {name: [rank.low, rank.warned] for name, rank in self._ranks.items()}
        return {"norms": self._loop.train_state.value_monitor.state_dict(), "ranks": ranks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from ``state_dict``."""
        self._loop.train_state.value_monitor.load_state_dict(state.get("norms", {}))
        for name, (low, warned) in state.get("ranks", {}).items():
            if name in self._ranks:
                self._ranks[name].low, self._ranks[name].warned = int(low), bool(warned)

    def _warn_once(self, now: int, key: str, text: str, *, step: int | None = None) -> None:
        if (
            self._record_once(now if step is None else step, key, text)
            and self._loop.train_state.engine.rank == 0
        ):
            warnings.warn(text, TrainingHealthWarning, stacklevel=6)

    def _record_once(self, step: int, key: str, text: str) -> bool:
        """Add to the run's record, each key once; return whether it is new."""
        if key in self._noted:
            return False
        self._noted.add(key)
        return self._loop.writer.record_warning(step, key, text)


def _rank_message(name: str, rank: float, width: int) -> str:
    return (
        f"{name} has a low rank: the codes of a batch vary in {rank:.1f} of {width} dimensions (effective rank). Try a lower "
        "lr=, a lower weight on losses that pull codes together (KL, L1, alignment), a larger batch=, or fewer dimensions."
    )
