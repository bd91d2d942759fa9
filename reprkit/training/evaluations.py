"""Repeated evaluations of a step's loss, for optimizers that call a closure: each one starts from the same state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from reprkit.errors import TrainingError
from reprkit.training.resume import state
from reprkit.utils import collectives

if TYPE_CHECKING:
    from reprkit.training.train_state import TrainState

T = TypeVar("T")
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


class Evaluations(Generic[T]):
    """The evaluations of a closure within one optimizer step; the first one is made at once.

    The closure computes gradients by ``step.backward``.  Calling the object returns the loss, averaged over ranks, so that all
    ranks take the same decisions: at the first call that of the evaluation that was already made, at later calls that of a new
    one, which starts from the random state of the first and from the statistics that the first one left.  Used as a context, it
    ends with the statistics and random state after the first evaluation, so that the others do not count.

    Args:
        train_state: of the running loop.
        closure: computes the losses and calls ``step.backward``.
        repeated: whether there are later evaluations.

    Attributes:
        result: what the closure returned at the first evaluation.

    Raises:
        TrainingError: the closure did not call ``step.backward``.
    """

    def __init__(self, train_state: TrainState, closure: Callable[[], T], *, repeated: bool) -> None:
        self._train_state, self._closure, self._first = train_state, closure, True
        model = train_state.model
        if repeated:
            train_state.clear_gradients()
            self._random = _RandomState(model, train_state.device)
        train_state.take_totals()
        self.result = closure()
        self._loss = self._take_loss()
        if repeated:
            self._random_after = _RandomState(model, train_state.device)
            self._statistics = _Statistics(model)

    def __enter__(self) -> Evaluations[T]:
        """Return the object itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the statistics and the random state after the first evaluation."""
        self._statistics.restore()
        self._random_after.restore()

    @torch.enable_grad()
    def __call__(self) -> float:
        """Return the loss at the current weights, and leave its gradients in the parameters."""
        if self._first:
            self._first = False
            return self._loss
        self._statistics.restore()
        self._random.restore()
        self._train_state.clear_gradients()
        self._train_state.repeating = True
        try:
            self._closure()
        finally:
            self._train_state.repeating = False
        return self._take_loss()

    def _take_loss(self) -> float:
        totals = self._train_state.take_totals()
        if not totals:
            raise TrainingError(
                "the closure of step.update did not call step.backward, so there are no gradients: it computes the losses and "
                "calls step.backward(losses.total)"
            )
        total = torch.stack(totals).sum()
        return float(collectives.sum_over_ranks(total)) / collectives.world_size()


class _RandomState:
    """The state of the global generators and of those that modules own."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._model, self._device = model, device
        self._global = state.random_states(device)
        self._own = {name: each.get_state() for name, each in state.generators_of(model).items()}

    def restore(self) -> None:
        state.set_random_states(self._global, self._device)
        for name, generator in state.generators_of(self._model).items():
            if name in self._own:
                generator.set_state(self._own[name])


class _Statistics:
    """A copy of all that a forward pass may change: buffers, and tensors and numbers that modules keep as attributes."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        # A view of a weight changes with the weight, and is no statistic.
        self._weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        self._buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        self._attributes = {
            name: {key: self._copy(value) for key, value in _attributes(module).items()}
            for name, module in model.named_modules()
        }

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the copy, any number of times."""
        for name, buffer in self._model.named_buffers():
            buffer.copy_(self._buffers[name])
        for name, module in self._model.named_modules():
            saved = self._attributes[name]
            for key in _attributes(module).keys() - saved.keys():
                del vars(module)[key]
            vars(module).update({key: self._copy(value) for key, value in saved.items()})

    def _copy(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value if value.untyped_storage().data_ptr() in self._weights else value.detach().clone()
        if type(value) in (list, tuple):
            return type(value)(self._copy(item) for item in value)
        if type(value) is dict:
            return {key: self._copy(item) for key, item in value.items()}
        return value


def _attributes(module: nn.Module) -> Mapping[str, Any]:
    """Return the attributes that are not those of every module."""
    return {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE}
