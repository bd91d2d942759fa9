"""The machinery behind the loop's steps: forward, backward, update, and the state that holds all of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reprkit.data.base import Dataset
from reprkit.errors import TrainingError, nearest
from reprkit.models.model import Model
from reprkit.training.ema import EMA
from reprkit.training.engine import Engine
from reprkit.training.monitor import non_finite
from reprkit.training.optimizers import optimizers_from
from reprkit.training.options import Options
from reprkit.training.resume import snapshot, state
from reprkit.types import Batch, Losses
from reprkit.utils import collectives

NOT_RUNNING = "the loop is not running: use its steps inside of `for step in rk.loop(...)`"

_open: weakref.WeakKeyDictionary[Model, TrainState] = weakref.WeakKeyDictionary()


class ModelProxy:
    """The model as it is trained (on its device, under autocast, wrapped by DDP): calling it is the training forward.

    Any other attribute is the wrapped module's.
    """

    def __init__(self, train_state: TrainState) -> None:
        self._train_state = train_state

    def __call__(self, batch: Batch, turn: str = "main") -> Losses:
        """The losses of a batch.

        Raises:
            TrainingError: out of memory; the message says what to lower.
        """
        return self._train_state.forward(batch, turn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._train_state.module, name)


class TrainState:
    """A model made ready to be trained.

    Args:
        model: to train; it is moved to the device, and put into training mode.
        data: to train on; it says in what order.
        options: of the loop.
        on_non_finite: called with a loss or gradient that is not finite, and the batch at hand; it may raise.

    Attributes:
        module: what is called to train: the model, or its DDP wrapper.
        closing: whether the present piece is the last one of its step.
        pieces: the losses of this step's forwards, one a piece.
        position: steps that are complete.
        updated: the turns that were updated in this step.
    """

    def __init__(
        self,
        model: Model,
        data: Dataset,
        options: Options,
        on_non_finite: Callable[[non_finite.NonFinite, Batch], None],
    ) -> None:
        turns = tuple(model.objective.turns)
        if options.accumulate > 1 and len(turns) > 1:
            raise TrainingError(
                f"accumulate={options.accumulate} cannot be used with an objective of several turns ({', '.join(turns)})"
            )
        left = _open.pop(model, None)
        if left is not None:  # an exception has left it open (its traceback still holds it)
            left.close(finished=False)
        self.model, self.options, self._on_non_finite = model, options, on_non_finite
        self.engine = Engine(
            device=options.device, precision=options.precision, strategy=options.strategy, turns=turns
        )
        self.device = self.engine.device
        dealt = {"ranks": self.engine.ranks, "rank": self.engine.rank, "buckets": options.buckets}
        self.order = data.order(options.batch, options.seed, **dealt)
        share = options.batch // self.engine.ranks
        if share % options.accumulate:
            raise TrainingError(
                f"{share} examples a process (batch={options.batch}, {self.engine.ranks} processes) cannot be cut into "
                f"accumulate={options.accumulate} equal pieces"
            )
        self.piece = share // options.accumulate
        model.train()
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
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._schedule_factor = options.schedule_factor()
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        self._rates = {turn: [g["initial_lr"] for g in o.param_groups] for turn, o in self.optimizers.items()}
        self.ema = None if options.ema is None else EMA(model, options.ema)
        self.value_monitor = non_finite.ValueMonitor(self.device)
        self._before = {"model": state.scalars_of(model)} | {
            name: state.scalars_of(each) for name, each in self.extras.items() if isinstance(each, nn.Module)
        }
        self.position, self._piece_index, self.last_piece = 0, 0, True
        self.pieces: list[Losses] = []
        self.updated: set[str] = set()
        self.closed = False
        self.norm: Tensor | None = None
        self._compiled = self._compile() if options.compile else []
        _open[model] = self
        self._clear_gradients()

    @property
    def lr(self) -> float:
        """The main optimiser's present rate."""
        self._check_running()
        return float(self.optimizers["main"].param_groups[0]["lr"])

    def begin(self, index: int) -> None:
        """Set the learning rates of a step."""
        self.position = index
        self.pieces, self.norm = [], None
        self.updated.clear()
        factor = self._schedule_factor(index)
        for turn, optimizer in self.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self._rates[turn], strict=True):
                group["lr"] = rate * factor

    def split_batch(self, batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """The pieces of a batch, on the device."""
        for place in range(self.options.accumulate):
            self._piece_index, self.last_piece = place, place + 1 == self.options.accumulate
            part = slice(place * self.piece, (place + 1) * self.piece)
            whole = self.options.accumulate == 1
            if self.device.type == "cpu":
                yield dict(batch) if whole else {name: value[part] for name, value in batch.items()}
            else:
                yield {
                    name: (value if whole else value[part]).to(self.device, non_blocking=True)
                    for name, value in batch.items()
                }

    def example_indices(self) -> list[int]:
        """Which examples the present piece holds, on this process."""
        start = self._piece_index * self.piece
        return self.order.at(self.position)[start : start + self.piece].tolist()

    def forward(self, batch: Batch, turn: str) -> Losses:
        """The losses of one piece; gradients are exchanged between ranks on the last (closing) one only."""
        self._check_running()
        try:
            if self.last_piece:
                losses = self.module(batch, turn)
            else:
                with self.engine.no_sync(self.module):
                    losses = self.module(batch, turn)
        except Exception as error:
            self._raise_memory_advice(error)
            raise
        if isinstance(losses, Losses):
            self.pieces.append(losses)
        return losses

    def backward(self, total: Tensor, batch: Batch, **options: Any) -> None:
        """Gradients of a piece's loss, of which the step's is the mean."""
        self._check_running()
        if not isinstance(total, Tensor) or total.numel() != 1:
            raise TrainingError(
                f"step.backward takes one number with a gradient, such as losses.total, not {_describe_value(total)}"
            )
        if not total.requires_grad:
            raise TrainingError("step.backward: the loss has no gradient (made under no_grad, or detached)")
        problem = self.value_monitor.check(self.position, total, self.pieces[-1] if self.pieces else None)
        if problem is not None:
            self._on_non_finite(problem, batch)
        try:
            share = total if self.options.accumulate == 1 else total / self.options.accumulate
            self.engine.backward(share, last_piece=self.last_piece, **options)
        except Exception as error:
            self._raise_memory_advice(error)
            raise

    def update(self, turn: str, batch: Batch) -> None:
        """Clip and optimise one turn's parameters; at the end of "main", codebooks, annealing and averages."""
        self._check_running()
        optimizer = self.optimizers.get(turn)
        if optimizer is None:
            known = self.optimizers
            raise TrainingError(
                f"the objective has no turn {turn!r}.{nearest(turn, known)}\n  its turns: {', '.join(known)}"
            )
        self.updated.add(turn)
        if not self.last_piece:
            return
        self._check_and_clip(optimizer, turn, batch)
        self.engine.reshard()
        try:
            optimizer.step()
        except Exception as error:
            self._raise_memory_advice(error)
            raise
        self._clear_gradients()
        if turn == "main":
            self.model.update()
            if self.ema is not None:
                self.ema.update()

    def _check_and_clip(self, optimizer: Optimizer, turn: str, batch: Batch) -> None:
        """The joint norm of a turn's gradients: looked at in every step, and bounded where asked."""
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = self.engine.norm(held)
        if turn == "main":
            self.norm = norm
        what = non_finite.NORM if turn == "main" else f"{non_finite.NORM} of turn {turn!r}"
        problem = self.value_monitor.check(self.position, norm, None, what=what)
        if problem is not None:
            gradients = ((name, p.grad) for name, p in self.model.named_parameters() if p.grad is not None)
            bad = non_finite.non_finite_names(gradients)
            found = f"not finite in the gradient of {', '.join(bad[:4])}{' ...' if len(bad) > 4 else ''}"
            self._on_non_finite(replace(problem, origin=found) if bad else problem, batch)
        if self.options.clip is not None:
            self.engine.clip(held, self.options.clip, norm)

    def averaged(self) -> AbstractContextManager[None]:
        """The model with averaged weights, for a block."""
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

    def non_finite_tensors(self) -> list[str]:
        """Names of weights and buffers that are not finite; where they are cut all ranks must call it, and learn the same."""
        self.engine.reshard()
        named = state.tensors_of(self.model)
        bad = non_finite.non_finite_names(named.items())
        if self.engine.shards is None:
            return bad
        flags = torch.tensor([name in bad for name in named], dtype=torch.float32, device=self.device)
        return [
            name for name, flag in zip(named, collectives.max_over_ranks(flags).tolist(), strict=True) if flag
        ]

    def capture(self) -> dict[str, Any]:
        """All that must be saved to go on from ``position`` as if nothing had happened: see ``snapshot.capture``."""
        self.engine.reshard()
        return snapshot.capture(self.model, self.optimizers, self.ema, self.extras, self._before, self.device)

    def restore(self, saved: Mapping[str, Any], position: int) -> None:
        """The inverse of ``capture``.

        Raises:
            TrainingError: the state is of another model, optimiser or set of extras.
        """
        self.engine.reshard()
        snapshot.restore(saved, self.model, self.optimizers, self.ema, self.extras, self.device)
        self.position = position

    def close(self, *, finished: bool) -> None:
        """Leave the model as one that is used: unwrapped, in evaluation mode; a finished one whole, with averaged weights."""
        _open.pop(self.model, None)
        for part in self._compiled:
            part._compiled_call_impl = None
        self._clear_gradients()
        if finished and self.ema is not None:
            self.engine.reshard()
            self.ema.copy_to_model()
        self.engine.release(self.model, whole=finished)
        self.model.eval()
        # A step that a caller still holds must not keep the optimizers' and the average's memory.
        self.closed, self.module = True, self.model
        self.optimizers, self.ema, self._trained, self.pieces, self._compiled = {}, None, [], [], []

    def _compile(self) -> list[nn.Module]:
        """Compile encoders and decoder in place; latents and objective keep books in Python, so they stay as they are."""
        parts: list[nn.Module] = [path.encoder for path in self.model.factors.values()]
        if self.model.decoder is not None:
            parts.append(self.model.decoder)
        for part in parts:
            part.compile()
        return parts

    def _clear_gradients(self) -> None:
        # Of all parameters: a turn also leaves gradients with those that it does not train.
        for parameter in self._trained:
            parameter.grad = None

    def _check_running(self) -> None:
        if self.closed:
            raise TrainingError(NOT_RUNNING)

    def _raise_memory_advice(self, error: Exception) -> None:
        """Raise what to lower in place of an error that says that memory ran out."""
        if non_finite.is_out_of_memory(error):
            lines = non_finite.memory_advice(
                self.position, self.options.batch, self.piece, self.options.precision, self.options.accumulate
            )
            raise TrainingError(
                f"{lines}\n  ({str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__})"
            ) from error


def _describe_value(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{type(value).__name__}{'; write losses.total' if isinstance(value, Losses) else ''}"
