"""The iterator behind ``rk.loop``: it handles data order, device, schedule, saved state and status; the body does the rest."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from reprkit.data.fingerprint import fingerprint, is_same
from reprkit.data.loading.order import loader
from reprkit.errors import TrainingError
from reprkit.interfaces import Part
from reprkit.models.model import Model
from reprkit.models.part_table import latent_names
from reprkit.runs.changes import compare_runs, warning_about
from reprkit.runs.metrics import finite_metrics
from reprkit.runs.model_summary import model_summary
from reprkit.runs.origin import find_recipe
from reprkit.runs.records import join_losses, metrics_line
from reprkit.runs.writer import RunWriter
from reprkit.training.best import BestModel
from reprkit.training.label_match import match_labels
from reprkit.training.monitor import monitor, non_finite
from reprkit.training.monitor.monitor import Monitor
from reprkit.training.options import Options
from reprkit.training.probes import POINTS, Probes, keep_figures
from reprkit.training.rank_failures import describe
from reprkit.training.rank_vote import RankVote
from reprkit.training.resume import state
from reprkit.training.saving import Saving
from reprkit.training.step import Step
from reprkit.training.stopping import TIME_IS_UP, Signals, stop_process
from reprkit.training.tensor_parallel import TensorShards
from reprkit.training.time_limit import TimeLimit, parse_duration
from reprkit.training.train_state import NOT_RUNNING, ModelProxy, TrainState
from reprkit.types import Losses
from reprkit.utils.process_state import ProcessState, unchanged_process
from reprkit.utils.progress import ProgressBar

_LOG_EVERY, _POINTS = 50, 20


def default_log_every(steps: int) -> int:
    """Return the steps between two logged lines where none were given: 50, or fewer for a curve of 20 points."""
    return max(1, min(_LOG_EVERY, steps // _POINTS))


class Loop:
    """An iterator over a run's steps; see ``loop``.  It can be used once."""

    def __init__(self, model: Model, data: Any, options: Options) -> None:
        if not hasattr(data, "signature"):
            from reprkit.data.resolve import dataset, is_source

            data = dataset(data) if is_source(data) else data
        self.model, self.data, self.options = model, match_labels(model, data), options
        self.writer = RunWriter(options.folder, stage=options.stage)
        self._train_state: TrainState | None = None
        self._used = False
        self._logged, self._start = -1, 0
        self._log_every = default_log_every(options.steps) if options.log_every is None else options.log_every
        self._monitor, self._saving = Monitor(self), Saving(self)
        self._best: BestModel | None = None
        self._probes: Probes | None = None
        self.time_limit: TimeLimit | None = None
        self._line: dict[str, Any] = {}  # the last one that was logged
        self._fingerprint: dict[str, Any] = {}
        self._facts: dict[str, Any] = {}
        self._changes: list[dict[str, Any]] = []

    def __len__(self) -> int:
        """Return the number of steps of the whole run."""
        return self.options.steps

    def __iter__(self) -> Iterator[Step]:
        """Iterate over the steps, from the run's current position."""
        if self._used:
            raise TrainingError("a loop can be used once only: call rk.loop again")
        self._used = True
        return self._run()  # no reference is kept, so that a body that breaks can release the generator

    # ------------------------------------------------------------------ used by the steps

    @property
    def train_state(self) -> TrainState:
        """The train state, while the loop runs."""
        if self._train_state is None:
            raise TrainingError(NOT_RUNNING)
        return self._train_state

    def log(
        self,
        index: int,
        losses: Losses | None,
        results: Mapping[str, Any] | None,
        more: Mapping[str, Any],
        probes: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a line of metrics."""
        train_state = self.train_state
        pieces = train_state.pieces
        joined = self.options.accumulate > 1 or len({turn for turn, _ in pieces}) > 1
        if joined and any(losses is piece for _, piece in pieces):
            losses = join_losses(pieces)
        more = {**train_state.step_metrics(), **more}
        times = {"seconds": round(self.writer.seconds, 3), "data_wait": self.writer.waiting["data"]}
        if index >= 0:
            times["lr"] = train_state.lr
        line = metrics_line(index + 1, losses, results, more, probes, **times)
        # A second line of a step holds all that was measured at the step.
        if probes and self._line and self._logged == index:
            line = {**self._line, "probes": line["probes"]}
        self._logged, self._line = index, line
        self.writer.log(line)
        if self._best is not None and self._best.consider(line, train_state.device) and self._best.current:
            self.writer.record_best(self._best.current)
        train_state.engine.track(
            finite_metrics({k: v for k, v in line.items() if k not in ("step", "seconds")}), index + 1
        )
        if line.get("loss") is not None:
            self._bar.note(f"loss {line['loss']:.4g}")

    # ------------------------------------------------------------------ the run

    def _run(self) -> Iterator[Step]:
        options, writer = self.options, self.writer
        process = ProcessState()
        try:
            if options.probes:
                every = options.probe_every or max(1, options.steps // POINTS)
                self._probes = Probes(
                    options.probe_references, self.data, options.probe_data, every=every, seed=options.seed
                )
            state.seed_everything(options.seed)
            self._train_state = train_state = TrainState(
                self.model, self.data, options, self._monitor.on_non_finite, self._on_rank_failure
            )
        except BaseException:
            process.restore()
            raise
        writer.writes = writer.writes and train_state.engine.rank == 0
        signals, finished = Signals(), False
        self._votes = RankVote(flags=3)
        self._saving.open()
        shown = options.progress if train_state.engine.rank == 0 else False
        self._bar = ProgressBar(self._title(), options.steps, show=shown)
        try:
            start = self._start_or_resume()
            if start < options.steps:
                # Without a folder nothing can be saved, so signals keep their usual handlers.
                with signals.listen() if options.out is not None else nullcontext():
                    yield from self._run_steps(start, signals)
                if self._best is not None:
                    self._best.finish()
            finished = True
        except Exception as error:
            self._saving.wait()
            cause = train_state.failures.explain(error)
            if cause is not None:
                raise cause from error
            writer.close(train_state.position, "failed", describe(error))
            train_state.failures.publish(error)
            raise
        except GeneratorExit:
            self._saving.wait()
            train_state.failures.leave(train_state.position)
            raise
        finally:
            if hasattr(self.data, "describe"):
                writer.update_data({**self.data.describe(), **self._fingerprint})
            # A body that breaks or raises closes this generator; the run writer learns which of the two when the process ends.
            writer.close(train_state.position, "finished" if finished else "stopped")
            self._bar.close(train_state.position if finished else None)
            self._votes.close()
            self._saving.close()
            train_state.close(finished=finished)
            self._train_state = None
            process.restore()

    def _on_rank_failure(self, text: str) -> None:
        """Record the message of another rank that failed, which ends this one."""
        self.writer.close(self.train_state.position, "failed", text)

    def _title(self) -> str:
        """Return the progress bar's title: the latents that are trained, the share of divided weights, and the stage."""
        title = f"training {latent_names(self.model)}"
        shards = self.train_state.engine.shards
        if isinstance(shards, TensorShards):
            title += f" ({shards.share:.0%} of the weights divided over {shards.size} processes)"
        return f"{title}, {self.options.stage}" if self.options.stage else title

    def _start_or_resume(self) -> int:
        """Start or resume the run; return the first step."""
        options, train_state, writer = self.options, self.train_state, self.writer
        folder = writer.state_folder
        self._on_rank_0(self._own_folder)
        self._facts = facts = self._describe()
        metadata: dict[str, Any] | None = None
        if options.resume and folder is not None:
            together = state.Ranks(
                train_state.engine.rank,
                train_state.engine.ranks,
                dict(self.model.named_parameters()),
                self._agree,
            )
            metadata, _ = state.load_newest(folder, self._restore, together) or (None, None)
        self._check_same_start(0 if metadata is None else metadata["step"])
        self._check_finite_weights()  # before an earlier run is moved aside
        if metadata is None:
            self._on_rank_0(lambda: writer.require_free(resume=options.resume, overwrite=options.overwrite))
        if options.best is not None and writer.best_folder is not None:
            self._best = BestModel(options.best, writer.best_folder, self.model)
        past: dict[str, Any] = {}
        warning = warning_about(self._changes)
        if metadata is None:
            if not options.resume:
                writer.move_earlier_run_aside()
            start = 0
        else:
            start = self._monitor.saved = int(metadata["step"])
            if start >= options.steps and writer.stage_record().get("status") == "finished":
                return start
            if warning:
                warnings.warn(warning, stacklevel=4)
            past = {
                "seconds": metadata["seconds"],
                "size": metadata["metrics_size"],
                "waited": metadata.get("waited"),
                "changes": self._changes,
            }
            if self._best is not None:
                self._best.restore(metadata.get("best"), writer.stage_record().get("best"))
                past["best"] = self._best.current
        writer.begin(steps=options.steps, facts=facts, position=start, **past)
        if warning:
            writer.record_warning(start, f"resume at step {start}", warning)
        train_state.engine.start_tracking(options.trackers, options.folder, facts)
        self._bar.begin(start)
        return start

    def _own_folder(self) -> None:
        self.writer.lock()
        if self.writer.writes and self.writer.owned:
            self._saving.remove_leftovers()

    def _on_rank_0(self, action: Callable[[], None]) -> None:
        """Do what only rank 0 can do or check in the run's folder; all ranks fail if it fails there."""
        refused: TrainingError | None = None
        try:
            action()
        except TrainingError as error:
            refused = error
        if self._votes.exchange_now(int(refused is not None), 0, 0)[0]:
            raise refused or TrainingError(f"process 0 cannot train into {self.options.out}: see its message")

    def _check_finite_weights(self) -> None:
        """Refuse to train a model that an earlier, diverged run has left with values that are not finite."""
        bad = self.train_state.non_finite_tensors()
        if bad:
            raise TrainingError(
                f"{len(bad)} of the model's weights and buffers are not finite before the first step: {', '.join(bad[:4])}"
                f"{' ...' if len(bad) > 4 else ''}\n"
                "  an earlier run has left them so, or they were loaded so; build the model again, or load an earlier checkpoint"
            )

    def _describe(self) -> dict[str, Any]:
        """Describe all that makes the run, as plain JSON: for ``run.json``, and to compare it with its resumption."""
        options, train_state = self.options, self.train_state
        facts: dict[str, Any] = {
            **options.to_json(),
            "steps": options.steps,
            "ranks": train_state.engine.ranks,
            "strategy": options.strategy,
            "device": str(train_state.device),
            "model": model_summary(self.model),
            "settings": train_state.optimizer_settings(),
        }
        if hasattr(self.data, "describe"):
            facts["data"] = self.data.describe()
        if train_state.extra:
            facts["extra"] = {name: each.data.describe() for name, each in train_state.extra.items()}
        if options.out is not None:
            recipe = find_recipe()
            if recipe is not None:
                facts["recipe"] = hashlib.sha256(recipe.file.read_bytes()).hexdigest()
            with unchanged_process():
                found = fingerprint(self.data)
            if found is not None and "data" in facts:
                self._fingerprint = {"fingerprint": found}
                facts["data"].update(self._fingerprint)
        plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
        return plain

    def _restore(self, metadata: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
        before, now = metadata["options"], self._facts
        one, other = ((facts.get("data") or {}).get("fingerprint") for facts in (before, now))
        same = is_same(one, other) if isinstance(one, dict) and isinstance(other, dict) else None
        self._changes = compare_runs(
            before, now, _renamed_arguments(self.model), same, _former_defaults(self.model)
        )
        self.train_state.restore(saved, metadata["step"])
        self._monitor.load_state_dict(metadata.get("watch") or {})

    def _check_same_start(self, start: int) -> None:
        """Check that all ranks start from the same step."""
        self._agree(start, False)

    def _agree(self, step: int, damaged: bool) -> bool:
        """Return whether the state of a step is damaged on any rank; all must have found the same step."""
        last, first, found = self._votes.exchange_now(step, monitor.LAST - step, int(damaged))
        if last != monitor.LAST - first:
            raise TrainingError(
                f"this process finds the state of step {step} in {self.options.out}, but another process finds another step: "
                "out= must be a folder that all machines share"
            )
        return bool(found)

    def _run_steps(self, start: int, signals: Signals) -> Iterator[Step]:
        options, train_state = self.options, self.train_state
        self._start = start
        self._saving.begin()
        if options.time_limit is not None:
            self.time_limit = TimeLimit(parse_duration(options.time_limit))
        model = ModelProxy(train_state)
        pin = train_state.device.type == "cuda"
        batches = loader(self.data, train_state.order, start, options.workers, stop=options.steps, pin=pin)
        if start == 0 and (probes := self._measure_probes(0)):
            self.log(-1, None, None, {}, probes)
        further = {
            name: each.batches(start, options.steps, options.workers, pin=pin)
            for name, each in train_state.extra.items()
        }
        for index in range(start, options.steps):
            train_state.begin(index)
            last = index + 1 == options.steps
            began = time.perf_counter()
            try:
                batch = next(batches)
                extra = {name: next(each) for name, each in further.items()}
            except Exception as error:
                self._saving.save_completed(index, self._monitor.saved, error)
                raise
            self.writer.waited["data"] += time.perf_counter() - began
            for piece in train_state.split_batch(batch):
                last_piece = train_state.last_piece
                yield Step(
                    train_state,
                    model,
                    self.log,
                    piece,
                    index,
                    extra=train_state.extra_pieces(extra),
                    last=last and last_piece,
                    last_piece=last_piece,
                )
            self._after_step(index, last, signals)
        self._saving.save(options.steps, urgent=True)

    def _measure_probes(self, position: int, *, last: bool = False) -> dict[str, Any] | None:
        """Return the metrics of the probes, if they are due after ``position`` steps."""
        train_state = self.train_state
        if self._probes is None or (position % self._probes.every and not last):
            return None
        began = time.perf_counter()
        train_state.engine.reshard()
        with train_state.averaged():
            measured = self._probes.measure(self.model, train_state.device)
        train_state.engine.reshard()
        spent = time.perf_counter() - began
        self.writer.waited["probes"] = self.writer.waited.get("probes", 0.0) + spent
        if last and self.writer.writes and self.writer.out is not None:
            keep_figures(measured, self.writer.out)
        return measured.to_json()

    def _after_step(self, index: int, last: bool, signals: Signals) -> None:
        """Log, check, and save or stop if due, after the body has finished a step."""
        options, train_state = self.options, self.train_state
        train_state.position = self.writer.position = index + 1
        if not train_state.updated and index == 0:
            warnings.warn(
                "the first step ended without step.update(), so no weights were updated", stacklevel=4
            )
        probes = self._measure_probes(index + 1, last=last)
        due = self._log_every and (last or (index + 1) % self._log_every == 0)
        fresh = train_state.pieces and self._logged != index
        if probes or (due and fresh):
            self.log(index, join_losses(train_state.pieces) if fresh else None, None, {}, probes)
        if last or (index + 1) % monitor.LOOK_EVERY == 0:
            self._monitor.run_diagnostics(index)
        self._bar.advance(index + 1)
        if index == self._start:
            self._saving.reserve()
        vote = self._votes.exchange_now if last else self._votes.exchange
        stopping = signals.received
        if self.time_limit is not None and self.time_limit.is_due() and not last:
            stopping = stopping or TIME_IS_UP
        alarm, stop, save = vote(self._monitor.alarm(), stopping, self._saving.vote())
        self._monitor.check(alarm)
        if stop:
            self._saving.save(index + 1, urgent=True)
            self.writer.close(index + 1, "stopped")
            stop_process(stop, index + 1, options.steps, say=train_state.engine.rank == 0)
        if not last:  # the last state is saved, and waited for, after the loop
            self._saving.follow(save, index + 1)

    # ------------------------------------------------------------------ used by saving

    def check_finite(self, position: int, *, buffers_only: bool = False) -> None:
        """Stop if a value of the steps so far, a weight or a buffer is not finite."""
        self._monitor.non_finite = self._monitor.non_finite or self.train_state.value_monitor.check_pending()
        self._monitor.check(self._votes.exchange_now(self._monitor.alarm(), 0, 0)[0])
        if self.writer.state_folder is not None:
            self.require_finite(self.train_state.non_finite_tensors(buffers_only=buffers_only), position)

    def require_finite(self, bad: Sequence[str], position: int) -> None:
        """Stop if weights or buffers have been found that are not finite."""
        if bad:
            origin = f"weights are no longer finite: {', '.join(bad[:4])}{' ...' if len(bad) > 4 else ''}"
            self._monitor.fail(
                non_finite.NonFinite(position - 1, float("nan"), what="gradient", origin=origin)
            )

    def describe_state(self) -> dict[str, Any]:
        """Return what is saved besides the train state, as plain JSON."""
        best = self._best.current if self._best is not None else None
        return {
            "seconds": round(self.writer.seconds, 3),
            "waited": self.writer.waited,
            "metrics_size": self.writer.size(),
            "options": self._facts,
            "watch": self._monitor.state_dict(),
            **({"best": best} if best else {}),
        }

    def note_saved(self, step: int) -> None:
        """Note that the state of a step is on the disk; on rank 0."""
        self._monitor.saved = step
        self.writer.update(max(step, self.writer.position), "running", saved=step)


def _renamed_arguments(model: Model) -> dict[str, str]:
    """Return former -> present name of the arguments of the model's parts."""
    renamed: dict[str, str] = {}
    for module in model.modules():
        renamed.update(getattr(type(module), "renamed_arguments", {}))
    return renamed


def _former_defaults(model: Model) -> dict[str, Mapping[str, Any]]:
    """Return part -> its arguments whose default was another one in earlier versions, with that default."""
    return {
        part.qualified.rpartition("/")[2]: part.former_defaults
        for part in model.modules()
        if isinstance(part, Part) and part.qualified and part.former_defaults
    }
