"""The train state behind the loop's steps: forward, backward, update, and capture and restore of the whole state."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reprkit.data.base import Dataset
from reprkit.errors import TrainingError, nearest
from reprkit.models.model import Model
from reprkit.training.coupled_step import CoupledStep, check_accumulation, couples_examples
from reprkit.training.ema import EMA
from reprkit.training.engine import Engine
from reprkit.training.evaluations import Evaluations
from reprkit.training.extra_data import create_extra
from reprkit.training.forward_state import ForwardState, random_states, set_random_states
from reprkit.training.monitor import non_finite
from reprkit.training.optimizers import (
    check_closure_options,
    check_trained_weights,
    needs_closure,
    optimizers_from,
)
from reprkit.training.option_checks import check_objective, check_strategy, piece_size
from reprkit.training.options import Options
from reprkit.training.rank_failures import RankFailures
from reprkit.training.recompute import RecomputedBlocks
from reprkit.training.resume import snapshot, state
from reprkit.training.resume.optimizer_check import INITIAL, note_settings
from reprkit.types import Batch, Losses
from reprkit.utils import collectives

T = TypeVar("T")

NOT_RUNNING = "the loop is not running: use its steps inside of `for step in rk.loop(...)`"

_open_states: weakref.WeakKeyDictionary[Model, TrainState] = weakref.WeakKeyDictionary()


class ModelProxy:
    """Proxy of the model being trained (on its device, under autocast, wrapped by DDP); calling it runs the training forward.

    All other attributes are the wrapped module's.
    """

    def __init__(self, train_state: TrainState) -> None:
        self._train_state = train_state

    def __call__(self, batch: Batch, turn: str = "main") -> Losses:
        """Compute the losses of a batch.

        Raises:
            TrainingError: out of memory; the message says what to lower.
        """
        return self._train_state.forward(batch, turn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._train_state.module, name)


class TrainState:
    """State of a training run: model, optimizers, EMA and extras, prepared for training.

    Args:
        model: the model to train; it is moved to the device and put into training mode.
        data: the data set to train on; it determines the order of examples.
        options: the loop's options.
        on_non_finite: called with a non-finite loss or gradient, and the batch; may raise.
        on_rank_failure: called with the message of another rank that failed, which ends this one.

    Attributes:
        failures: the failures of the ranks, shared between them.
        module: the module called in training: the model, or its DDP wrapper.
        extra: the further data sets, by name.
        last_piece: whether the current piece is the last one of its step.
        pieces: the losses of this step's forwards, one per piece.
        last_batch: the last piece of a batch that was yielded.
        position: number of completed steps.
        updated: the turns updated in this step.
    """

    def __init__(
        self,
        model: Model,
        data: Dataset,
        options: Options,
        on_non_finite: Callable[[non_finite.NonFinite, Batch], None],
        on_rank_failure: Callable[[str], Any],
    ) -> None:
        check_objective(model, options)
        earlier = _open_states.pop(model, None)
        if earlier is not None:  # an exception left it open (its traceback still holds it)
            earlier.close(finished=False)
        self.model, self.options, self._on_non_finite = model, options, on_non_finite
        self.engine = Engine(
            device=options.device,
            precision=options.precision,
            strategy=options.strategy,
            turns=model.objective.turns,
        )
        self.device = self.engine.device
        try:
            self._set_up(model, data, options, on_rank_failure)
        except BaseException:
            self.engine.release(model)  # options that are refused on all ranks leave no trace
            raise

    def _set_up(
        self, model: Model, data: Dataset, options: Options, on_rank_failure: Callable[[str], Any]
    ) -> None:
        """Set up what a step needs, and check the options that depend on model, data or ranks."""
        sharding = {"ranks": self.engine.data_ranks, "rank": self.engine.data_rank}
        mates: dict[str, Any] = (
            {} if options.groups is None else {"groups": options.groups, "mates": options.mates}
        )
        self.order = data.order(options.batch, options.seed, **sharding, buckets=options.buckets, **mates)
        self.extra = create_extra(
            model,
            options.extra,
            batch=options.batch,
            seed=options.seed,
            accumulate=options.accumulate,
            **sharding,
        )
        self.piece = piece_size(
            options.batch,
            ranks=self.engine.data_ranks,
            accumulate=options.accumulate,
            what=f"batch={options.batch}",
        )
        if options.freeze is not None:
            model.freeze(*((options.freeze,) if isinstance(options.freeze, str) else options.freeze))
        model.expect_new_data()
        model.train()
        if options.accumulate > 1:
            check_accumulation(model, options.accumulate, self.piece)
        self._coupled = options.accumulate > 1 and couples_examples(model)
        self._coupled_step: CoupledStep | None = None
        self._batches: list[dict[str, Tensor]] = []  # the pieces of the present step, if it is coupled
        self._checked = False
        check_strategy(model, options, self.engine.ranks)
        self.module: nn.Module = self.engine.prepare(model)
        self.extras = dict(options.extras or {})
        for extra in self.extras.values():
            if isinstance(extra, nn.Module):
                extra.to(self.device)
        self.optimizers = optimizers_from(
            model,
            options.optimizer,
            options.optimizers or {},
            lr=options.lr,
            weight_decay=options.weight_decay,
        )
        if self.engine.shards is not None:
            self.engine.shards.check(self.optimizers.values())
        modules = [extra for extra in self.extras.values() if isinstance(extra, nn.Module)]
        check_trained_weights(model, self.optimizers, [p for module in modules for p in module.parameters()])
        for turn, optimizer in self.optimizers.items():
            check_closure_options(
                optimizer,
                turn,
                accumulate=options.accumulate,
                clip=options.clip,
                sharded=self.engine.shards is not None,
                scaled=self.engine.scaler is not None,
            )
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._schedule_factor = options.schedule_factor()
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
            note_settings(optimizer)
        self._rates = {turn: [g["initial_lr"] for g in o.param_groups] for turn, o in self.optimizers.items()}
        self.ema = None if options.ema is None else EMA(model, options.ema)
        self.value_monitor = non_finite.ValueMonitor(self.device)
        self._before = {"model": state.scalars_of(model)} | {
            name: state.scalars_of(extra)
            for name, extra in self.extras.items()
            if isinstance(extra, nn.Module)
        }
        self.position, self._piece_index, self.last_piece = 0, 0, True
        self.pieces: list[tuple[str, Losses]] = []  # the turn and losses of every forward pass of the step
        self.last_batch: dict[str, Tensor] | None = None
        # The batch of a step in pieces, before its first forward.
        self._whole: Mapping[str, Tensor] | None = None
        # Whether a closure is evaluated again: such losses are neither logged nor checked.
        self.repeating = False
        self._totals: list[Tensor] = []  # the losses of the current evaluation of a closure
        self.updated: set[str] = set()
        self.closed = False
        self.norm: Tensor | None = None
        self._recomputed = RecomputedBlocks(model) if options.recompute else None
        self._compiled = self._compile() if options.compile else []
        _open_states[model] = self
        self.clear_gradients()
        self.failures = RankFailures(self.engine.rank, self.engine.ranks, on_rank_failure)

    def step_metrics(self) -> dict[str, Tensor | float]:
        """Return what is logged of an update: the gradient's norm; with loss scaling also the scale and the steps skipped."""
        found: dict[str, Tensor | float] = {} if self.norm is None else {"gradient_norm": self.norm}
        if self.engine.scaler is not None:
            found["loss_scale"] = self.engine.scaler.get_scale()
            found["skipped_steps"] = self.engine.scaler.skipped
        return found

    def optimizer_settings(self) -> dict[str, dict[str, Any]]:
        """Return turn -> the optimizer's name and the settings of its first group, as plain JSON."""
        return {
            turn: {"name": type(optimizer).__name__, **optimizer.param_groups[0][INITIAL]}
            for turn, optimizer in self.optimizers.items()
        }

    @property
    def lr(self) -> float:
        """The main optimizer's current learning rate."""
        self._check_running()
        return float(self.optimizers["main"].param_groups[0]["lr"])

    def begin(self, index: int) -> None:
        """Start a step and set its learning rates."""
        self.position = index
        self.failures.note(None)
        self.pieces, self.norm, self._totals, self._coupled_step = [], None, [], None
        self.updated.clear()
        factor = self._schedule_factor(index)
        for turn, optimizer in self.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self._rates[turn], strict=True):
                group["lr"] = rate * factor

    def split_batch(self, batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Yield the pieces of a batch, on the device."""
        pieces: Iterable[dict[str, Tensor]] = (
            self._piece_of(batch, number) for number in range(self.options.accumulate)
        )
        if self._coupled:
            self._batches[:] = pieces
            pieces = iter(self._batches)
        self._whole = batch if self.options.accumulate > 1 else None
        for number, piece in enumerate(pieces):
            self.last_batch = piece
            self._piece_index, self.last_piece = number, number + 1 == self.options.accumulate
            yield piece
        self._batches.clear()

    def extra_pieces(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Return the current piece of the batches of ``extra``, on the device."""
        return {
            name: self._piece_of(batch, self._piece_index, self.extra[name].piece)
            for name, batch in batches.items()
        }

    def _piece_of(
        self, batch: Mapping[str, Tensor], number: int, size: int | None = None
    ) -> dict[str, Tensor]:
        size = self.piece if size is None else size
        part = slice(number * size, (number + 1) * size)
        whole = self.options.accumulate == 1
        if self.device.type == "cpu":
            return dict(batch) if whole else {name: value[part] for name, value in batch.items()}
        return {
            name: (value if whole else value[part]).to(self.device, non_blocking=True)
            for name, value in batch.items()
        }

    def example_indices(self) -> list[int]:
        """Return the indices of the current piece's examples, on this process."""
        start = self._piece_index * self.piece
        return self.order.at(self.position)[start : start + self.piece].tolist()

    def forward(self, batch: Batch, turn: str) -> Losses:
        """Compute the losses of one piece; gradients are exchanged between ranks at the last piece only."""
        self._check_running()
        try:
            if self._whole is not None:
                self._start_latents(self._whole, turn)
                self._whole = None
            with nullcontext() if self.last_piece else self.engine.no_sync(self.module):
                losses = self._compute_losses(batch, turn)
        except Exception as error:
            self._raise_explained(error)
            raise
        if isinstance(losses, Losses) and not self.repeating:
            self.pieces.append((turn, losses))
        return losses

    @torch.no_grad()
    def _start_latents(self, batch: Mapping[str, Tensor], turn: str) -> None:
        """Initialize latents that do so from their first batch, from the whole batch; nothing else is changed."""
        latents = {factor.latent for factor in self.model.factors.values()}
        starting = [latent for latent in latents if latent.training and latent.starts]
        if not starting:
            return
        before, random = ForwardState(self.model), random_states(self.model, self.device)
        with (
            self.engine.no_sync(self.module),
            collectives.no_coupling() if not self._coupled else nullcontext(),
        ):
            self.module(dict(batch), turn)
        started = [
            {name: value.clone() for name, value in latent.state_dict().items()} for latent in starting
        ]
        before.restore()
        set_random_states(self.model, random, self.device)
        for latent, state_dict in zip(starting, started, strict=True):
            latent.load_state_dict(state_dict)

    def _compute_losses(self, batch: Batch, turn: str) -> Losses:
        if self.options.accumulate == 1:
            return self.module(batch, turn)
        if not self._coupled:
            with collectives.no_coupling():
                return self.module(batch, turn)
        if batch is not self._batches[self._piece_index] or len(self.pieces) != self._piece_index:
            raise TrainingError(
                f"accumulate={self.options.accumulate} and a loss that compares examples: call step.model(step.batch) once for "
                "each piece, with step.batch itself, since the other pieces are computed from theirs"
            )
        if self._coupled_step is None:
            self._coupled_step = CoupledStep(self.model, self._batches, turn, check=not self._checked)
            self._coupled_step.prepare()
            self._checked = True
        return self._coupled_step.losses(self._piece_index, self.module)

    def backward(self, total: Tensor, batch: Batch, **options: Any) -> None:
        """Compute the gradients of a piece's loss; the step's loss is the mean over pieces."""
        self._check_running()
        if not isinstance(total, Tensor) or total.numel() != 1:
            raise TrainingError(
                f"step.backward takes a scalar with a gradient, such as losses.total, not {_describe_value(total)}"
            )
        if not total.requires_grad:
            raise TrainingError(
                "step.backward: the loss has no gradient (computed under no_grad, or detached)"
            )
        self._totals.append(total.detach())
        if not self.repeating:
            problem = self.value_monitor.check(
                self.position, total, self.pieces[-1][1] if self.pieces else None
            )
            if problem is not None:
                self._on_non_finite(problem, batch)
        try:
            share = total if self.options.accumulate == 1 else total / self.options.accumulate
            self.engine.backward(share, last_piece=self.last_piece, **options)
        except Exception as error:
            self._raise_explained(error)
            raise

    def update(self, turn: str, batch: Batch, closure: Callable[[], T] | None = None) -> T | None:
        """Clip and update one turn's parameters; turn "main" also updates codebooks, annealing and the EMA.

        Returns:
            What ``closure`` returned at its first evaluation; None without it.
        """
        self._check_running()
        optimizer = self.optimizers.get(turn)
        if optimizer is None:
            known = self.optimizers
            raise TrainingError(
                f"the objective has no turn {turn!r}.{nearest(turn, known)}\n  its turns: {', '.join(known)}"
            )
        repeated = needs_closure(optimizer)
        if repeated and closure is None:
            raise TrainingError(
                f"optimizer {type(optimizer).__name__} evaluates the loss several times a step: pass step.update(closure=...), a "
                "function that computes the losses and calls step.backward"
            )
        self.updated.add(turn)
        evaluations = None if closure is None else Evaluations(self, closure, repeated=repeated)
        result = None if evaluations is None else evaluations.result
        if not self.last_piece:
            return result
        self._check_and_clip(optimizer, turn, batch)
        self.engine.reshard()
        try:
            if evaluations is not None and repeated:
                with evaluations:
                    self.engine.step(optimizer, evaluations)
            else:
                self.engine.step(optimizer)
        except Exception as error:
            self._raise_explained(error)
            raise
        self.clear_gradients()
        if turn == "main":
            self.model.update()
            if self.ema is not None:
                self.ema.update()
        return result

    def take_totals(self) -> list[Tensor]:
        """Return the losses that were passed to ``backward`` since the last call, detached."""
        totals, self._totals = self._totals, []
        return totals

    def _check_and_clip(self, optimizer: Optimizer, turn: str, batch: Batch) -> None:
        """Check the joint norm of a turn's gradients, and clip it if requested."""
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.engine.unscale(optimizer)
        norm = self.engine.norm(held)
        if turn == "main":
            self.norm = norm
        what = non_finite.NORM if turn == "main" else f"{non_finite.NORM} of turn {turn!r}"
        scaler = self.engine.scaler
        overflow = None if scaler is None else scaler.overflow
        problem = self.value_monitor.check(self.position, norm, None, what=what, overflow=overflow)
        if problem is not None:
            gradients = ((name, p.grad) for name, p in self.model.named_parameters() if p.grad is not None)
            bad = non_finite.non_finite_names(gradients)
            origin = f"not finite in the gradient of {', '.join(bad[:4])}{' ...' if len(bad) > 4 else ''}"
            self._on_non_finite(replace(problem, origin=origin) if bad else problem, batch)
        if self.options.clip is not None:
            self.engine.clip(held, self.options.clip, norm)

    def averaged(self) -> AbstractContextManager[None]:
        """Context in which the model has the averaged weights."""
        self._check_running()
        return nullcontext() if self.ema is None else self._with_ema(self.ema)

    @contextmanager
    def _with_ema(self, ema: EMA) -> Iterator[None]:
        self.engine.reshard()
        with ema.swapped_in():
            try:
                yield
            finally:
                self.engine.reshard()

    def non_finite_tensors(self, *, buffers_only: bool = False) -> list[str]:
        """Return names of non-finite weights and buffers; with sharded weights all ranks must call it, with equal results."""
        self.engine.reshard()
        named = dict(self.model.named_buffers()) if buffers_only else state.tensors_of(self.model)
        bad = non_finite.non_finite_names(named.items())
        if self.engine.shards is None:
            return bad
        flags = torch.tensor([name in bad for name in named], dtype=torch.float32, device=self.device)
        return [
            name
            for name, flag in zip(named, collectives.max_over_processes(flags).tolist(), strict=True)
            if flag
        ]

    def capture(self, *, whole: bool = True) -> dict[str, Any]:
        """Return all that must be saved to continue from ``position``: see ``snapshot.capture``."""
        self.engine.reshard()
        saved = snapshot.capture(
            self.model, self.optimizers, self.ema, self.extras, self._before, self.device, whole=whole
        )
        scaler = self.engine.scaler
        return saved if scaler is None else {**saved, "loss_scaling": scaler.state_dict()}

    def restore(self, saved: Mapping[str, Any], position: int) -> None:
        """Restore a captured state.

        Raises:
            TrainingError: the state is of another model, optimizer or set of extras.
        """
        self.engine.reshard()
        snapshot.restore(saved, self.model, self.optimizers, self.ema, self.extras, self.device)
        # A state that was saved in another precision has no scale.
        if self.engine.scaler is not None and "loss_scaling" in saved:
            self.engine.scaler.load_state_dict(saved["loss_scaling"])
        self.position = position

    def close(self, *, finished: bool) -> None:
        """Unwrap the model and put it into evaluation mode; if finished, make it whole, with averaged weights."""
        _open_states.pop(self.model, None)
        self.failures.close()
        for part in self._compiled:
            part._compiled_call_impl = None
        if self._recomputed is not None:
            self._recomputed.undo()
        self.clear_gradients()
        if finished and self.ema is not None:
            self.engine.reshard()
            self.ema.copy_to_model()
        self.engine.release(self.model, whole=finished)
        self.model.eval()
        # A step that a caller still holds must not keep the memory of the optimizers and the EMA.
        self.closed, self.module = True, self.model
        self.optimizers, self.ema, self._trained, self.pieces, self._compiled = {}, None, [], [], []

    def _compile(self) -> list[nn.Module]:
        """Compile encoders and decoder in place; latents and objective keep state in Python, so they are not compiled."""
        parts: list[nn.Module] = [factor.encoder for factor in self.model.factors.values()]
        parts += [output.decoder for output in self.model.outputs.values()]
        parts = list(dict.fromkeys(parts))
        for part in parts:
            part.compile()
        return parts

    def clear_gradients(self) -> None:
        """Clear the gradients of all parameters."""
        # Of all parameters: a turn also computes gradients of parameters that it does not train.
        for parameter in self._trained:
            parameter.grad = None

    def _check_running(self) -> None:
        if self.closed:
            raise TrainingError(NOT_RUNNING)

    def _raise_explained(self, error: Exception) -> None:
        """Replace an out-of-memory error by one that says what to lower, and a broken connection by its cause on another rank."""
        if non_finite.is_out_of_memory(error):
            lines = non_finite.memory_advice(
                self.position, self.options.batch, self.piece, self.options.precision, self.options.accumulate
            )
            advice = TrainingError(
                f"{lines}\n  ({str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__})"
            )
            self.failures.note(advice)
            raise advice from error
        cause = self.failures.explain(error)
        if cause is not None:
            raise cause from error
        self.failures.note(error)


def _describe_value(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{type(value).__name__}{'; pass losses.total' if isinstance(value, Losses) else ''}"
