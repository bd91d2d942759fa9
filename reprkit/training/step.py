"""One step of the loop: the model, the batch, and backward, update, log and averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from reprkit.types import Losses

if TYPE_CHECKING:
    from reprkit.training.train_state import ModelProxy, TrainState


T = TypeVar("T")


class Step:
    """One step of the loop; with ``accumulate=k`` one of the k pieces of a step, which share its ``index``.

    Attributes:
        model: the module to train: ``step.model(step.batch)``, or ``step.model(step.batch, turn="critic")``.
        batch: this process's examples, on the model's device.
        extra: name -> this process's examples of a further data set, see ``rk.loop(extra=)``.
        index: the step's index, from 0; equal on all ranks.
        last: whether it is the last step.
    """

    __slots__ = ("_last_piece", "_log", "_train_state", "batch", "extra", "index", "last", "model")

    def __init__(
        self,
        train_state: TrainState,
        model: ModelProxy,
        log: Callable[..., None],
        batch: dict[str, Tensor],
        index: int,
        *,
        last: bool,
        last_piece: bool,
        extra: Mapping[str, dict[str, Tensor]],
    ) -> None:
        self._train_state, self._log, self._last_piece = train_state, log, last_piece
        self.model, self.batch, self.index, self.last = model, batch, index, last
        self.extra = extra

    @property
    def lr(self) -> float:
        """The main optimizer's learning rate at this step."""
        return self._train_state.lr

    def backward(self, total: Tensor, **options: Any) -> None:
        """Compute the gradients of a loss, accumulated over the pieces of a step; ``options`` as for ``Tensor.backward``.

        Raises:
            TrainingError: the loss is not a scalar, or not finite (on a GPU this may be detected some steps later).
        """
        self._train_state.backward(total, self.batch, **options)

    def update(self, turn: str = "main", *, closure: Callable[[], T] | None = None) -> T | None:
        """Clip gradients and step the turn's optimizer; turn "main" also updates codebooks, annealing and the EMA.

        All gradients are cleared afterwards.  With ``accumulate`` it acts on the last piece only.

        ``closure`` computes the losses and calls ``step.backward``, instead of the lines before this one.  An optimizer that
        evaluates the loss several times a step (``"lbfgs"``) needs it and calls it again with other weights; every other
        optimizer calls it once.  Each evaluation starts from the same random state and the same statistics; only the first one
        is logged, and only it counts for codebooks, usage and the like.

        Returns:
            What ``closure`` returned at its first evaluation; None without it.

        Raises:
            TrainingError: the turn does not exist, a gradient is not finite, the optimizer needs a closure, or the closure did
                not call ``step.backward``.
        """
        return self._train_state.update(turn, self.batch, closure)

    def every(self, n: int) -> bool:
        """Return whether this step completes a multiple of ``n`` steps."""
        return self._last_piece and (self.index + 1) % n == 0

    def log(
        self, losses: Losses | None = None, results: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        """Write a line of metrics; all ranks must call it, and losses are averaged over them.

        Args:
            losses: the step's losses; with ``accumulate`` the mean over its pieces is written.
            results: from ``rk.evaluate``.
            more: other numbers.
        """
        self._log(self.index, losses, results, more)

    def averaged(self) -> AbstractContextManager[None]:
        """Context in which the model has the averaged weights (``ema=``), for evaluation; without ``ema`` it does nothing."""
        return self._train_state.averaged()
