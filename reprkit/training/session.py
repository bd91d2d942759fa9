"""The machinery behind the loop's steps: forward, backward, update, and the state that holds all of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from reprkit.data.order import Order
from reprkit.errors import TrainingError, nearest
from reprkit.model import Model
from reprkit.training import health, state
from reprkit.training.averaging import Average
from reprkit.training.engine import Engine
from reprkit.training.optimisers import optimisers_from
from reprkit.training.options import Options
from reprkit.types import Batch, Losses

_open: weakref.WeakKeyDictionary[Model, Session] = weakref.WeakKeyDictionary()


class Session:
    """A model made ready to be trained.

    Args:
        model: to train; it is moved to the device, and put into training mode.
        size: examples in the data set.
        options: of the loop.
        sick: called with a loss or gradient that is not finite, and the batch at hand; it may raise.

    Attributes:
        module: what is called to train: the model, or its DDP wrapper.
        pieces: the losses of this step's forwards, one a piece.
        position: steps that are complete.
        updated: the turns that were updated in this step.
    """

    def __init__(
        self, model: Model, size: int, options: Options, sick: Callable[[health.Sickness, Batch], None]
    ) -> None:
        turns = tuple(model.objective.turns)
        if options.accumulate > 1 and len(turns) > 1:
            raise TrainingError(
                f"accumulate={options.accumulate} cannot be used with an objective of several turns ({', '.join(turns)})"
            )
        left = _open.pop(model, None)
        if left is not None:  # an exception has left it open (its traceback still holds it)
            left.close(finished=False)
        self.model, self.options, self._sick = model, options, sick
        self.engine = Engine(device=options.device, precision=options.precision, turns=turns)
        self.device = self.engine.device
        self.order = Order(size, options.batch, options.seed, ranks=self.engine.ranks, rank=self.engine.rank)
        share = options.batch // self.engine.ranks
        if share % options.accumulate:
            raise TrainingError(
                f"{share} examples a process (batch={options.batch}, {self.engine.ranks} processes) cannot be cut into "
                f"accumulate={options.accumulate} equal pieces"
            )
        self.piece = share // options.accumulate
        model.train()
        self.module: nn.Module = self.engine.prepare(model)
        for extra in options.extras.values():
            if isinstance(extra, nn.Module):
                extra.to(self.device)
        self.optimisers = optimisers_from(
            model, options.optimizer, options.optimizers, lr=options.lr, weight_decay=options.weight_decay
        )
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._factor = options.factor()
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["initial_lr"] = group["lr"]
        self._rates = {turn: [g["initial_lr"] for g in o.param_groups] for turn, o in self.optimisers.items()}
        self.average = None if options.ema is None else Average(model, options.ema)
        self.watch = health.Watch(self.device)
        self._before = {"model": state.scalars_of(model)} | {
            name: state.scalars_of(each)
            for name, each in options.extras.items()
            if isinstance(each, nn.Module)
        }
        self.position = 0
        self.pieces: list[Losses] = []
        self.updated: set[str] = set()
        self.norm: Tensor | None = None
        self._compiled = self._compile() if options.compile else []
        _open[model] = self
        self._drop_gradients()

    @property
    def lr(self) -> float:
        """The main optimiser's present rate."""
        return float(self.optimisers["main"].param_groups[0]["lr"])

    def begin(self, index: int) -> None:
        """Set the learning rates of a step."""
        self.position = index
        self.pieces, self.norm = [], None
        self.updated.clear()
        factor = self._factor(index)
        for turn, optimiser in self.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self._rates[turn], strict=True):
                group["lr"] = rate * factor

    def cut(self, batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """The pieces of a batch, on the device."""
        for place in range(self.options.accumulate):
            part = slice(place * self.piece, (place + 1) * self.piece)
            whole = self.options.accumulate == 1
            if self.device.type == "cpu":
                yield dict(batch) if whole else {name: value[part] for name, value in batch.items()}
            else:
                yield {
                    name: (value if whole else value[part]).to(self.device, non_blocking=True)
                    for name, value in batch.items()
                }

    def forward(self, batch: Batch, turn: str, closing: bool) -> Losses:
        """The losses of one piece; gradients are exchanged between ranks on the last (closing) one only."""
        try:
            if closing:
                losses = self.module(batch, turn)
            else:
                with self.engine.quiet(self.module):
                    losses = self.module(batch, turn)
        except Exception as error:
            self._advise(error)
            raise
        if isinstance(losses, Losses):
            self.pieces.append(losses)
        return losses

    def backward(self, total: Tensor, batch: Batch, **options: Any) -> None:
        """Gradients of a piece's loss, of which the step's is the mean."""
        if not isinstance(total, Tensor) or total.numel() != 1:
            raise TrainingError(
                f"step.backward takes one number with a gradient, such as losses.total, not {_shown(total)}"
            )
        if not total.requires_grad:
            raise TrainingError("step.backward: the loss has no gradient (made under no_grad, or detached)")
        sickness = self.watch.see(self.position, total, self.pieces[-1] if self.pieces else None)
        if sickness is not None:
            self._sick(sickness, batch)
        try:
            share = total if self.options.accumulate == 1 else total / self.options.accumulate
            self.engine.backward(share, **options)
        except Exception as error:
            self._advise(error)
            raise

    def update(self, turn: str, closing: bool, batch: Batch) -> None:
        """Clip and optimise one turn's parameters; at the end of "main", codebooks, annealing and averages."""
        optimiser = self.optimisers.get(turn)
        if optimiser is None:
            known = self.optimisers
            raise TrainingError(
                f"the objective has no turn {turn!r}.{nearest(turn, known)}\n  its turns: {', '.join(known)}"
            )
        self.updated.add(turn)
        if not closing:
            return
        if self.options.clip is not None:
            self._clip(optimiser, self.options.clip, turn, batch)
        try:
            optimiser.step()
        except Exception as error:
            self._advise(error)
            raise
        self._drop_gradients()
        if turn == "main":
            self.model.update()
            if self.average is not None:
                self.average.update()

    def _clip(self, optimiser: Optimizer, limit: float, turn: str, batch: Batch) -> None:
        held = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        norm = self.engine.norm(held)
        if turn == "main":
            self.norm = norm
        sickness = self.watch.see(self.position, norm, None, what="gradient's norm")
        if sickness is not None:
            gradients = ((name, p.grad) for name, p in self.model.named_parameters() if p.grad is not None)
            bad = health.unwell(gradients)
            origin = f"not finite in the gradient of {', '.join(bad[:4])}{' ...' if len(bad) > 4 else ''}"
            self._sick(replace(sickness, origin=origin), batch)
        self.engine.clip(held, limit, norm)

    def averaged(self) -> AbstractContextManager[None]:
        """The model with averaged weights, for a block."""
        return nullcontext() if self.average is None else self.average.installed()

    def capture(self) -> dict[str, Any]:
        """All that must be saved to go on from ``position`` as if nothing had happened."""
        return {
            "model": state.capture(self.model, self._before["model"]),
            "optimisers": {turn: each.state_dict() for turn, each in self.optimisers.items()},
            "average": None if self.average is None else self.average.state_dict(),
            "extras": {
                name: state.capture(each, self._before[name])
                if isinstance(each, nn.Module)
                else each.state_dict()
                for name, each in self.options.extras.items()
            },
            "random": state.random_states(self.device),
        }

    def restore(self, saved: Mapping[str, Any], position: int) -> None:
        """The inverse of ``capture``.

        Raises:
            TrainingError: the state is of another model, optimiser or set of extras.
        """
        state.restore(self.model, saved["model"])
        for turn, optimiser in self.optimisers.items():
            if turn not in saved["optimisers"]:
                raise TrainingError(f"the saved state has no optimiser for turn {turn!r}")
            state.restore_optimiser(optimiser, saved["optimisers"][turn], turn)
        if self.average is not None and saved["average"] is not None:
            self.average.load_state_dict(saved["average"])
        for name, each in self.options.extras.items():
            if name not in saved["extras"]:
                raise TrainingError(
                    f"the saved state has no extra {name!r}; it has {', '.join(saved['extras']) or 'none'}"
                )
            if isinstance(each, nn.Module):
                state.restore(each, saved["extras"][name])
            else:
                each.load_state_dict(saved["extras"][name])
        state.set_random_states(saved["random"], self.device)
        self.position = position

    def close(self, *, finished: bool) -> None:
        """Leave the model as one that is used: unwrapped, in evaluation mode; a finished one with averaged weights."""
        _open.pop(self.model, None)
        for part in self._compiled:
            part._compiled_call_impl = None
        self._drop_gradients()
        self.engine.release(self.model)
        if finished and self.average is not None:
            self.average.install()
        self.model.eval()

    def _compile(self) -> list[nn.Module]:
        """Compile encoders and decoder in place; latents and objective keep books in Python, so they stay as they are."""
        parts: list[nn.Module] = [path.encoder for path in self.model.factors.values()]  # type: ignore[misc]
        if self.model.decoder is not None:
            parts.append(self.model.decoder)
        for part in parts:
            part.compile()
        return parts

    def _drop_gradients(self) -> None:
        # Of all parameters: a turn also leaves gradients with those that it does not train.
        for parameter in self._trained:
            parameter.grad = None

    def _advise(self, error: Exception) -> None:
        """Raise what to lower in place of an error that says that memory ran out."""
        if health.is_memory(error):
            lines = health.memory_advice(
                self.position, self.options.batch, self.piece, self.options.precision, self.options.accumulate
            )
            raise TrainingError(
                f"{lines}\n  ({str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__})"
            ) from error


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{type(value).__name__}{'; write losses.total' if isinstance(value, Losses) else ''}"
