"""One step in pieces whose examples are compared with each other, exact by cached representations.

::

    1  without gradients   all pieces compute side by side; at a collective each waits for the others    values exchanged
    2  piece by piece      the gradient of the loss of each piece for the values exchanged               their gradients
    3  piece by piece      the piece's loss with the values as constants, plus gradient * own value      step.backward

This is GradCache (Gao et al. 2021, arXiv 2101.06983, section 3.2) for any objective and latent that compare examples through
``reprkit.utils.collectives``: each piece acts as a rank.  Random states are the same in all passes, and all pieces draw the joined
batch's values and use their rows, so losses and gradients are those of the whole batch.  A step takes three forward passes and one
backward pass, in the memory of one piece.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from reprkit.errors import TrainingError
from reprkit.models.model import Model
from reprkit.training.forward_state import ForwardState, random_states, set_random_states
from reprkit.types import Batch, Losses
from reprkit.utils import collectives
from reprkit.utils.collectives import Exchange

TOLERANCE = 1e-2  # between two computations of one value, relative to its largest element


def couples_examples(model: Model) -> bool:
    """Return whether a loss of the model compares the examples of a batch with each other."""
    latents = (factor.latent for factor in model.factors.values())
    return model.objective.distributes != "mean" or any(latent.couples_examples for latent in latents)


def check_accumulation(model: Model, pieces: int, size: int) -> None:
    """Refuse what cannot be computed in ``pieces`` pieces of ``size`` examples.

    Raises:
        TrainingError: a layer that normalizes over the examples of a piece, or a piece of one example where they are compared.
    """
    for name, module in model.named_modules():
        if (
            isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm)
            and module.training
        ):
            raise TrainingError(
                f"accumulate={pieces}: layer {name} ({type(module).__name__}) would normalize over the {size} examples of a piece, "
                "not over the batch; use a layer that normalizes each example (GroupNorm, LayerNorm), or accumulate=1"
            )
    if size < 2 and couples_examples(model):
        who = [model.objective.title] if model.objective.distributes != "mean" else []
        who += [
            factor.latent.qualified or type(factor.latent).__name__
            for factor in model.factors.values()
            if factor.latent.couples_examples
        ]
        raise TrainingError(
            f"accumulate={pieces} leaves pieces of one example, and {', '.join(who)} compares examples: use fewer pieces or a "
            "larger batch"
        )


@dataclass
class _Value:
    """The result of one collective; its gradient summed over all pieces (None: no loss depends on it), and each piece's rows."""

    kind: Exchange
    result: Tensor
    rows: int
    gradient: Tensor | None = None


class CoupledStep:
    """One step in pieces: ``prepare`` computes the values exchanged and their gradients, ``losses`` one piece's losses.

    Args:
        model: the model being trained.
        pieces: this process's pieces, on the model's device, of equal sizes.
        turn: the objective's turn.
        check: compare the values of the second pass with those of the first.
    """

    def __init__(
        self, model: Model, pieces: Sequence[Batch], turn: str = "main", *, check: bool = True
    ) -> None:
        self.model, self.pieces, self.turn, self.check = model, pieces, turn, check
        self.device = model.device
        self._random = random_states(model, self.device)
        self._values: list[_Value] = []

    def prepare(self) -> None:
        """Compute the values that the pieces exchange, and the gradients of all losses for them; changes no state of the model.

        Raises:
            TrainingError: the pieces do not exchange the same values, or not the same ones when computed again.
        """
        before = ForwardState(self.model)
        try:
            with torch.no_grad():
                self._exchange_values()
            before.restore()
            chained = self._add_gradients(range(len(self._values)), None)
            for index in reversed(range(len(self._values) - 1)) if chained else ():
                before.restore()
                self._add_gradients([index], index)
        finally:
            before.restore()

    def losses(self, number: int, forward: Callable[[Batch, str], Losses]) -> Losses:
        """Return the losses of a piece: the values of its own, their gradients those of the joined batch's loss.

        Args:
            number: the piece, from 0.
            forward: computes the losses of a batch and turn: the model, or its DDP wrapper.
        """
        set_random_states(self.model, self._random, self.device)
        piece = _Replay(self, number)
        with collectives.pieces_as_ranks(piece):
            losses = forward(self.pieces[number], self.turn)
        piece.finish()
        if not isinstance(losses, Losses):
            return losses
        linear = [(gradient * own).sum() for own, gradient in piece.own_gradients(range(len(self._values)))]
        if not linear:
            return losses
        term = sum(linear[1:], linear[0]).to(losses.total.dtype)
        return replace(losses, total=losses.total + (term - term.detach()))

    # ------------------------------------------------------------------ pass 1

    def _exchange_values(self) -> None:
        threads = [_PieceThread(self, number) for number in range(len(self.pieces))]
        try:
            while True:
                for thread in threads:
                    thread.resume()
                waiting = [thread for thread in threads if thread.request is not None]
                if not waiting:
                    return
                kinds = {None if thread.request is None else thread.request[0] for thread in threads}
                if len(kinds) > 1:
                    raise TrainingError(_UNEQUAL.format(what="one compares examples where another does not"))
                own = [thread.request[1] for thread in waiting if thread.request is not None]
                if len({value.shape for value in own}) > 1:
                    raise TrainingError(
                        _UNEQUAL.format(
                            what=f"shapes are {', '.join(str(tuple(value.shape)) for value in own)}"
                        )
                    )
                (kind,) = kinds
                assert kind is not None
                self._values.append(_Value(kind, _combine(kind, own), len(own[0]) if own[0].ndim else 0))
        finally:
            for thread in threads:
                thread.cancel()

    # ------------------------------------------------------------------ pass 2

    def _add_gradients(self, indices: Sequence[int] | range, through: int | None) -> bool:
        """Add to the gradients of some values; return whether a value that was exchanged depends on an earlier one.

        Args:
            indices: of the values.
            through: None for the gradients of the losses; else for those of the later values, of index above ``through``.
        """
        sums: dict[int, Tensor] = {}
        chained = False
        for number, batch in enumerate(self.pieces):
            set_random_states(self.model, self._random, self.device)
            piece = _Replay(self, number, leaves=indices)
            with torch.enable_grad(), collectives.pieces_as_ranks(piece):
                total = self.model(batch, self.turn).total
            piece.finish()
            if through is None:
                chained = piece.chained() or chained
            else:
                later = piece.own_gradients(range(through + 1, len(self._values)))
                scalars = [(gradient * own).sum() for own, gradient in later if own.requires_grad]
                total = sum(scalars[1:], scalars[0]) if scalars else total.detach()
            if not (total.requires_grad and piece.leaves):
                continue
            gradients = torch.autograd.grad(total, list(piece.leaves.values()), allow_unused=True)
            for index, gradient in zip(piece.leaves, gradients, strict=True):
                if gradient is not None:
                    sums[index] = sums[index] + gradient if index in sums else gradient
        for index in indices:
            value = self._values[index]
            if value.kind == "gather with gradient" and _anywhere(index in sums, self.device):
                mine = sums[index] if index in sums else torch.zeros_like(value.result)
                with collectives.pieces_apart():
                    whole = collectives.sum_over_ranks(mine)
                value.gradient = whole if value.gradient is None else value.gradient + whole
        return bool(chained)

    def value(self, index: int) -> _Value:
        """Return one of the exchanged values, in the order of the calls."""
        if index >= len(self._values):
            raise TrainingError(_AGAIN.format(what="examples are compared once more"))
        return self._values[index]

    @property
    def exchanged(self) -> int:
        """The number of values that were exchanged."""
        return len(self._values)

    def rows(self, value: _Value, number: int) -> slice:
        """Return the rows of a gathered value that are a piece's own."""
        with collectives.pieces_apart():
            start = (collectives.rank() * len(self.pieces) + number) * value.rows
        return slice(start, start + value.rows)


_UNEQUAL = "accumulate=: the pieces of a batch do not compare the same values ({what}), so they cannot be joined; use accumulate=1"
_AGAIN = (
    "accumulate=: computed a second time, a piece of the batch does not give the same values ({what}), so pieces cannot be joined; "
    "draw random numbers from torch's generators, or use accumulate=1"
)


def _anywhere(here: bool, device: torch.device) -> bool:
    """Return whether a condition holds on any process."""
    with collectives.pieces_apart():
        if collectives.world_size() == 1:
            return here
        return bool(collectives.max_over_ranks(torch.tensor(float(here), device=device)))


def _combine(kind: Exchange, own: Sequence[Tensor]) -> Tensor:
    """Combine the values of this process's pieces, then those of all processes."""
    with collectives.pieces_apart():
        if kind == "sum":
            return collectives.sum_over_ranks(torch.stack(tuple(own)).sum(0))
        if kind == "max":
            return collectives.max_over_ranks(torch.stack(tuple(own)).amax(0))
        return collectives.gather(torch.cat(tuple(own)))


@dataclass
class _Replay:
    """A piece computed again: collectives return the known values.

    Attributes:
        leaves: the values by index that are leaves of the graph, instead of constants.
        own: this piece's own values by index, with their graphs.
    """

    step: CoupledStep
    number: int
    leaves: Any = ()
    own: dict[int, Tensor] = field(default_factory=dict)
    calls: int = 0

    def __post_init__(self) -> None:
        self.pieces = len(self.step.pieces)
        self._wanted = frozenset(self.leaves)
        self.leaves: dict[int, Tensor] = {}

    def exchange(self, kind: Exchange, value: Tensor) -> Tensor:
        index, self.calls = self.calls, self.calls + 1
        known = self.step.value(index)
        rows = len(value) if value.ndim else 0
        if known.kind != kind or rows != known.rows:
            raise TrainingError(_AGAIN.format(what=f"{kind} of {rows} rows was {known.kind} of {known.rows}"))
        if kind != "gather with gradient" or not torch.is_grad_enabled():
            return known.result.clone()
        if self.step.check and not _is_close(value, known.result[self.step.rows(known, self.number)]):
            raise TrainingError(_AGAIN.format(what="they differ by over one percent"))
        self.own[index] = value
        if index not in self._wanted:
            return known.result.clone()
        self.leaves[index] = leaf = known.result.clone().requires_grad_()
        return leaf

    def finish(self) -> None:
        """Check that all known values were used."""
        if self.calls != self.step.exchanged:
            raise TrainingError(_AGAIN.format(what="examples are compared less often"))

    def own_gradients(self, indices: range) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this piece's own values that have a gradient, and their gradients."""
        for index in indices:
            value = self.step.value(index)
            if value.gradient is not None and index in self.own and self.own[index].requires_grad:
                yield self.own[index], value.gradient[self.step.rows(value, self.number)]

    def chained(self) -> bool:
        """Return whether one of its own values depends on another value that was exchanged before."""
        for index, own in self.own.items():
            earlier = [leaf for other, leaf in self.leaves.items() if other < index]
            if own.requires_grad and earlier:
                zeros = torch.zeros_like(own)
                found = torch.autograd.grad(own, earlier, zeros, retain_graph=True, allow_unused=True)
                if any(gradient is not None for gradient in found):
                    return True
        return False


@torch.no_grad()
def _is_close(value: Tensor, known: Tensor) -> bool:
    scale = known.abs().max()
    return bool((value - known).abs().max() <= TOLERANCE * scale + 1e-6)


class _Cancelled(BaseException):
    """Ends a thread that waits for values that will not come."""


class _PieceThread:
    """A piece that computes in a thread of its own, up to its next collective; only one of the threads runs at a time.

    Attributes:
        request: the collective it waits for: kind and value; None when it has finished.
    """

    def __init__(self, step: CoupledStep, number: int) -> None:
        self.step, self.number, self.pieces = step, number, len(step.pieces)
        self.request: tuple[Exchange, Tensor] | None = None
        self._calls = 0
        self._random, self._cache = step._random, None
        self._error: BaseException | None = None
        self._cancelled = self._ended = False
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), daemon=True, name=f"piece-{number}"
        )
        self._thread.start()

    def resume(self) -> None:
        """Run to the next collective or to the end; raise what the piece raised."""
        if self._ended:
            self.request = None
            return
        set_random_states(self.step.model, self._random, self.step.device)
        self.step.model.__dict__["_forward_cache"] = self._cache
        self._go.release()
        self._paused.acquire()
        self._random = random_states(self.step.model, self.step.device)
        self._cache = self.step.model.__dict__["_forward_cache"]
        self.step.model.__dict__["_forward_cache"] = None
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """End the thread."""
        self._cancelled = True
        self._go.release()
        self._thread.join()

    def exchange(self, kind: Exchange, value: Tensor) -> Tensor:
        index, self._calls = self._calls, self._calls + 1
        self.request = (kind, value.detach().clone())
        self._pause()
        return self.step.value(index).result.clone()

    def _pause(self) -> None:
        self._paused.release()
        self._go.acquire()
        if self._cancelled:
            raise _Cancelled

    def _run(self) -> None:
        step = self.step
        self._go.acquire()
        try:
            on_device = torch.cuda.device(step.device) if step.device.type == "cuda" else nullcontext()
            if not self._cancelled:
                with torch.no_grad(), on_device, collectives.pieces_as_ranks(self):
                    step.model(step.pieces[self.number], step.turn)
        except _Cancelled:
            pass
        except BaseException as error:  # raised by the main thread, in `resume`
            self._error = error
        finally:
            self.request, self._ended = None, True
            self._paused.release()
