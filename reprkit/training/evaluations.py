"""Repeated evaluations of a step's loss, for optimizers that call a closure: each one starts from the same state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from reprkit.errors import TrainingError
from reprkit.training.forward_state import ForwardState, random_states, set_random_states
from reprkit.utils import collectives

if TYPE_CHECKING:
    from reprkit.training.train_state import TrainState

T = TypeVar("T")


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
            self._random = random_states(model, train_state.device)
        train_state.take_totals()
        self.result = closure()
        self._loss = self._take_loss()
        if repeated:
            self._random_after = random_states(model, train_state.device)
            self._statistics = ForwardState(model)

    def __enter__(self) -> Evaluations[T]:
        """Return the object itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the statistics and the random state after the first evaluation."""
        self._statistics.restore()
        set_random_states(self._train_state.model, self._random_after, self._train_state.device)

    @torch.enable_grad()
    def __call__(self) -> float:
        """Return the loss at the current weights, and leave its gradients in the parameters."""
        if self._first:
            self._first = False
            return self._loss
        self._statistics.restore()
        set_random_states(self._train_state.model, self._random, self._train_state.device)
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
