"""The iterator behind ``rk.loop``: it owns order, device, schedule, state and status; the body owns the rest."""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

from reprkit.data.loading.order import loader
from reprkit.errors import TrainingError
from reprkit.models.model import Model
from reprkit.runs.metrics import finite_metrics
from reprkit.runs.model_summary import model_summary, warn_of_changes
from reprkit.runs.records import average_losses, metrics_line
from reprkit.runs.writer import RunWriter
from reprkit.training.best import Best
from reprkit.training.monitor import monitor, non_finite
from reprkit.training.monitor.monitor import Monitor
from reprkit.training.options import Options
from reprkit.training.rank_vote import RankVote, Signals
from reprkit.training.resume import state
from reprkit.training.step import Step
from reprkit.training.train_state import NOT_RUNNING, Prepared, TrainState
from reprkit.types import Losses
from reprkit.utils.progress import ProgressBar

SIGTERM_EXIT = 128 + signal.SIGTERM  # 143, what a shell reports of a process that SIGTERM ended


class Loop:
    """An iterator over a run's steps; see ``loop``.  It is used once."""

    def __init__(self, model: Model, data: Any, options: Options) -> None:
        if isinstance(data, str):
            from reprkit.data import dataset

            data = dataset(data)
        self.model, self.data, self.options = model, data, options
        self.journal = RunWriter(options.folder, stage=options.stage)
        self._session: TrainState | None = None
        self._used = False
        self._logged = -1
        self._guard = Monitor(self)
        self._best: Best | None = None

    def __len__(self) -> int:
        """Steps of the whole run."""
        return self.options.steps

    def __iter__(self) -> Iterator[Step]:
        """The steps, from where the run stands."""
        if self._used:
            raise TrainingError("a loop is used once: call rk.loop again")
        self._used = True
        return self._run()  # not kept: a body that breaks must be able to let go of it

    # ------------------------------------------------------------------ what the steps do

    @property
    def session(self) -> TrainState:
        """The machinery, while the loop runs."""
        if self._session is None:
            raise TrainingError(NOT_RUNNING)
        return self._session

    def log(
        self, index: int, losses: Losses | None, results: Mapping[str, Any] | None, more: Mapping[str, Any]
    ) -> None:
        """Write a line of metrics."""
        session = self.session
        if (
            losses is not None
            and any(losses is piece for piece in session.pieces)
            and self.options.accumulate > 1
        ):
            losses = average_losses(session.pieces)
        if session.norm is not None:
            more = {"gradient_norm": session.norm, **more}
        times = {"seconds": round(self.journal.seconds, 3), "data_wait": self.journal.waiting["data"]}
        line = metrics_line(index + 1, losses, results, more, **times, lr=session.lr)
        self._logged = index
        self.journal.log(line)
        if self._best is not None and self._best.consider(line, session.device) and self._best.now:
            self.journal.keep_best(self._best.now)
        session.engine.track(
            finite_metrics({k: v for k, v in line.items() if k not in ("step", "seconds")}), index + 1
        )
        if line.get("loss") is not None:
            self._bar.note(f"loss {line['loss']:.4g}")

    # ------------------------------------------------------------------ the run

    def _run(self) -> Iterator[Step]:
        options, journal = self.options, self.journal
        state.seed_everything(options.seed)
        self._session = session = TrainState(self.model, self.data, options, self._guard.sick)
        journal.writes = journal.writes and session.engine.rank == 0
        signals, finished = Signals(), False
        self._votes = RankVote(flags=3)
        shown = options.progress if session.engine.rank == 0 else False
        self._bar = ProgressBar(self._title(), options.steps, show=shown)
        try:
            start = self._enter()
            if start < options.steps:
                # Without a folder there is nothing to save, so signals keep their usual meaning.
                with signals.listening() if options.out is not None else nullcontext():
                    yield from self._through(start, signals)
                if self._best is not None:
                    self._best.finish()
            finished = True
        except Exception as error:
            journal.close(session.position, "failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            if hasattr(self.data, "describe"):
                journal.update_data(self.data.describe())
            # A body that breaks or raises closes this generator; which of the two, the journal learns when the process ends.
            journal.close(session.position, "finished" if finished else "stopped")
            self._bar.close(session.position if finished else None)
            self._votes.close()
            session.close(finished=finished)
            self._session = None

    def _title(self) -> str:
        """What the progress bar is called: the stage, the run's folder, or else the latents that are trained."""
        out = self.journal.out
        if self.options.stage:
            return f"training {self.options.stage}"
        if out is not None:
            return f"training {out.resolve().name}"
        paths = self.model.factors.values()
        return f"training {', '.join(path.latent.reference.name for path in paths)}"

    def _enter(self) -> int:
        """Begin or go on: the step to start with."""
        options, session, journal = self.options, self.session, self.journal
        folder = journal.state_folder
        found = state.newest(folder) if options.resume and folder is not None else None
        self._agree_on(0 if found is None else int(found[0]["step"]))
        facts = {
            **options.facts(),
            "ranks": session.engine.ranks,
            "strategy": options.strategy,
            "device": str(session.device),
            "model": model_summary(self.model),
        }
        if hasattr(self.data, "describe"):
            facts["data"] = self.data.describe()
        if options.best is not None and journal.best_folder is not None:
            self._best = Best(options.best, journal.best_folder, self.model)
        past: dict[str, Any] = {}
        if found is None:
            if not options.resume:
                journal.move_earlier_run_aside()
            start = 0
        else:
            about, saved = found
            start = self._guard.saved = int(about["step"])
            session.restore(saved, start)
            if start >= options.steps and journal.stage_record().get("status") == "finished":
                return start
            warn_of_changes(about["options"], facts)
            self._guard.load_state_dict(about.get("watch", {}))
            past = {"seconds": about["seconds"], "size": about["metrics_size"], "waited": about.get("waited")}
            if self._best is not None:
                self._best.restore(about.get("best"), journal.stage_record().get("best"))
                past["best"] = self._best.now
        self._facts = facts
        journal.begin(steps=options.steps, facts=facts, position=start, **past)
        session.engine.start_tracking(options.trackers, options.folder, facts)
        self._bar.begin(start)
        return start

    def _agree_on(self, start: int) -> None:
        """All ranks must go on from the same step."""
        last, first, _ = self._votes.settle(start, monitor.LAST - start, 0)
        if last != monitor.LAST - first:
            raise TrainingError(
                f"this process finds the state of step {start} in {self.options.out}, and another one's is of another step: "
                "out= must be a folder that all machines share"
            )

    def _through(self, start: int, signals: Signals) -> Iterator[Step]:
        options, session = self.options, self.session
        self._next_save = time.monotonic() + (options.save_every or float("inf"))
        model = Prepared(session)
        pin = session.device.type == "cuda"
        batches = loader(self.data, session.order, start, options.workers, stop=options.steps, pin=pin)
        for index in range(start, options.steps):
            session.begin(index)
            last = index + 1 == options.steps
            asked = time.perf_counter()
            batch = next(batches)
            self.journal.waited["data"] += time.perf_counter() - asked
            for place, piece in enumerate(session.cut(batch)):
                closing = place + 1 == options.accumulate
                yield Step(session, model, self.log, piece, index, last=last and closing, closing=closing)
            self._between(index, last, signals)
        self._save(options.steps, urgent=True)

    def _between(self, index: int, last: bool, signals: Signals) -> None:
        """What happens after the body is through with a step."""
        options, session = self.options, self.session
        session.position = self.journal.position = index + 1
        if not session.updated and index == 0:
            warnings.warn(
                "the first step ended without step.update(), so nothing was learned in it", stacklevel=2
            )
        if (
            options.log_every
            and session.pieces
            and self._logged != index
            and (last or (index + 1) % options.log_every == 0)
        ):
            self.log(index, average_losses(session.pieces), None, {})
        if last or (index + 1) % monitor.LOOK_EVERY == 0:
            self._guard.look(index)
        self._bar.advance(index + 1)
        due = session.engine.rank == 0 and options.out is not None and time.monotonic() >= self._next_save
        talk = self._votes.settle if last else self._votes.exchange
        sick, stop, save = talk(self._guard.alarm(), signals.received, int(due))
        self._guard.heed(sick)
        if stop:
            self._save(index + 1, urgent=True)
            self.journal.close(index + 1, "stopped")
            if stop == signal.SIGINT:
                raise KeyboardInterrupt(f"stopped after step {index + 1}; the state is saved")
            raise SystemExit(SIGTERM_EXIT)
        if save:
            self._save(index + 1)

    def _save(self, position: int, *, urgent: bool = False) -> None:
        """Save the state, after a look at whether it is worth it."""
        options, session, journal = self.options, self.session, self.journal
        began = time.perf_counter()
        self._guard.sickness = self._guard.sickness or session.watch.look()
        self._guard.heed(self._votes.settle(self._guard.alarm(), 0, 0)[0])
        folder = journal.state_folder
        if folder is None:
            return
        bad = session.unwell()
        if bad:
            found = f"weights have become not finite: {', '.join(bad[:4])}{' ...' if len(bad) > 4 else ''}"
            self._guard.fail(non_finite.NonFinite(position - 1, float("nan"), what="gradient", origin=found))
        captured = session.capture() if session.engine.rank == 0 or session.engine.shards is not None else {}
        if session.engine.rank == 0:
            try:
                about = {
                    "seconds": round(journal.seconds, 3),
                    "waited": journal.waited,
                    "metrics_size": journal.size(),
                    "options": self._facts,
                    "watch": self._guard.state_dict(),
                    **({"best": self._best.now} if self._best is not None and self._best.now else {}),
                }
                state.save(folder, position, about, captured, keep=options.keep)
            except TrainingError as error:
                if urgent:
                    raise
                warnings.warn(f"{error}; training goes on", stacklevel=2)
            else:
                self._guard.saved = position
                journal.waited["saves"] += time.perf_counter() - began
                journal.update(position, "running", saved=True)
        self._next_save = time.monotonic() + (options.save_every or float("inf"))
