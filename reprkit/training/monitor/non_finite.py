"""Detect non-finite losses and gradients, and explain them and out-of-memory errors with what to do next."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reprkit.interfaces import Part
from reprkit.models.model import Model
from reprkit.training.loss_scaling import LOWEST
from reprkit.training.monitor.diagnostics import NormMonitor
from reprkit.training.sparse_gradients import gradient_values
from reprkit.types import Losses
from reprkit.utils.sharded_tensors import local_shard

NORM = "gradient's norm"
FEW = 8  # examples of a batch named in a message
LOOK_EVERY = (
    50  # steps between two checks of the losses on a GPU, since each check synchronizes with the device
)


@dataclass(frozen=True)
class NonFinite:
    """A loss (or gradient) that was not finite: its step, its non-finite terms, and where it originates if known."""

    step: int
    value: float
    terms: tuple[str, ...] = ()
    origin: str = ""
    what: str = "loss"

    def message(self, out: Any = None, saved: int | None = None, indices: Sequence[int] = ()) -> str:
        """Return what happened, with which examples, and what to do next."""
        terms = f" (not finite: {', '.join(self.terms)})" if self.terms else ""
        lines = [f"the {self.what} is {self.value} at step {self.step}{terms}"]
        if self.origin:
            lines.append(self.origin)
        if indices:
            first = ", ".join(map(str, indices[:FEW]))
            rest = f", ... (all {len(indices)} {'in run.json, failure' if out else 'in run.json, with out='})"
            lines.append(
                f"this step's batch held examples {first}{rest if len(indices) > FEW else ''} of the data"
            )
        lines.append("try a lower lr=, clip=1.0, a warmup=, precision='fp32', or inspect this step's batch")
        if saved is not None:
            lines.append(f"the state of step {saved} in {out} is finite: resume=True continues from there")
        return "\n  ".join(lines)


@dataclass(frozen=True)
class Diagnostic:
    """An exploded norm: its step, what it is the norm of, and what to do."""

    step: int
    what: str
    text: str


class ValueMonitor:
    """Check every step's loss and norm: immediately on the CPU, else in bundles, so that no step waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._immediate = device.type == "cpu"
        self._pending: list[tuple[int, Tensor, Mapping[str, Tensor], str, Tensor | None]] = []
        self._norms: dict[str, NormMonitor] = {}
        self._diagnostics: list[Diagnostic] = []

    def check(
        self,
        step: int,
        value: Tensor,
        losses: Losses | None,
        what: str = "loss",
        overflow: Tensor | None = None,
    ) -> NonFinite | None:
        """Check a loss (or a gradient's norm); return the non-finite value found, if any.

        Args:
            step: its step.
            value: the value, a scalar.
            losses: of which it is the total.
            what: what it is.
            overflow: the scale of a loss whose scaled gradients have overflowed, else 0: such a step was skipped, and is no failure
                unless the scale is at its lowest.
        """
        terms = losses.terms if losses else {}
        if self._immediate:
            return self._check_value(step, float(value.detach()), terms, what, overflow)
        self._pending.append((step, value.detach(), terms, what, overflow))
        return self.check_pending() if len(self._pending) >= LOOK_EVERY else None

    def check_pending(self) -> NonFinite | None:
        """Check all pending values."""
        pending, self._pending = self._pending, []
        if not pending:
            return None
        values = torch.stack([value.float().reshape(()) for _, value, *_ in pending]).tolist()
        for (step, _, terms, what, overflow), value in zip(pending, values, strict=True):
            problem = self._check_value(step, value, terms, what, overflow)
            if problem is not None:
                return problem
        return None

    def take_diagnostics(self) -> list[Diagnostic]:
        """Return and clear the diagnostics since the last call."""
        found, self._diagnostics = self._diagnostics, []
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the norms, as JSON."""
        return {what: norms.state_dict() for what, norms in self._norms.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from ``state_dict``."""
        for what, norms in state.items():
            self._norms.setdefault(what, NormMonitor()).load_state_dict(norms)

    def _check_value(
        self, step: int, value: float, terms: Mapping[str, Tensor], what: str, overflow: Tensor | None
    ) -> NonFinite | None:
        if not math.isfinite(value):
            if _skips(overflow):
                return None
            return NonFinite(step, value, _non_finite_terms(terms), what=what)
        if what.startswith(NORM):
            times = self._norms.setdefault(what, NormMonitor()).update(value)
            if times is not None:
                text = (
                    f"the {what} has exploded: {value:.3g} at step {step}, {times:.0f} times its running median. Try clip=1.0, a "
                    "lower lr=, or a warmup=."
                )
                self._diagnostics.append(Diagnostic(step, what, text))
        return None


def _skips(overflow: Tensor | None) -> bool:
    """Whether a step is skipped since its scaled gradients have overflowed, and the scale of its loss can still be lowered."""
    return overflow is not None and float(overflow) >= LOWEST


def _non_finite_terms(terms: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(name for name, value in terms.items() if not math.isfinite(float(value)))


def non_finite_names(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Return the names of tensors that are not finite, in one transfer from the device; checks this process's shards."""
    held = ((name, gradient_values(local_shard(t.detach()))) for name, t in tensors if t.is_floating_point())
    real = [(name, t) for name, t in held if t.numel()]
    if not real:
        return []
    # Both are nan if any value is.  One pass without a copy: five times as fast as the largest absolute value.
    ends = torch.stack([torch.stack(torch.aminmax(t)).float() for _, t in real]).tolist()
    return [name for (name, _), pair in zip(real, ends, strict=True) if not all(map(math.isfinite, pair))]


@torch.no_grad()
def find_origin(
    model: Model,
    batch: Mapping[str, Tensor],
    turn: str = "main",
    *,
    rerun: bool = True,
    indices: Sequence[int] = (),
) -> str:
    """Find where values stop being finite: in the batch, in a part's weights, or in a part's output for finite input.

    For a run that stops anyway: ``rerun`` runs the batch through the model once more (not possible while other ranks wait).
    ``indices`` are the batch's examples, to name the faulty one.
    """
    for name, value in batch.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            rows = (~value.isfinite()).flatten(1).any(1).nonzero().flatten().tolist() if value.ndim else []
            named = [indices[row] for row in rows[:FEW]] if len(indices) == len(value) else []
            which = f" of example{'s' * (len(rows) > 1)} {', '.join(map(str, named))}" if named else ""
            return f"the batch itself is not finite: field {name!r}{which}{', ...' if len(rows) > len(named) > 0 else ''}"
    names = non_finite_names(model.named_parameters())  # not the buffers: this batch has already changed them
    if names:
        return (
            f"weights were already not finite: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}; a gradient of an earlier "
            "step was not"
        )
    if not rerun:
        return ""
    origins: list[str] = []
    parts = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, Part) and module is not model.objective
    }

    def check_output(part: nn.Module, _: Any, output: Any) -> None:
        if not origins and not all(bool(t.isfinite().all()) for t in _float_tensors(output)):
            assert isinstance(part, Part)
            origins.append(
                f"it originates in {part.kind} {part.qualified or type(part).__name__} ({parts[part]}): its output is not finite"
            )

    hooks = [part.register_forward_hook(check_output) for part in parts]
    try:
        losses = model(batch, turn)
    except Exception:  # non-finite values may also raise; the first one found counts
        losses = None
    finally:
        for hook in hooks:
            hook.remove()
    if origins:
        return origins[0]
    if losses is not None and math.isfinite(float(losses.total)):
        return "the same batch now gives a finite loss: the failure depends on a random draw"
    return f"all parts' outputs are finite: it originates in objective {model.objective.title}"


def _float_tensors(output: Any) -> Iterator[Tensor]:
    for leaf in torch.utils._pytree.tree_leaves(output):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            yield leaf


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is an out-of-memory error, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(
        re.search(r"out of memory|can't allocate memory", str(error), re.IGNORECASE)
    )


def memory_advice(step: int, batch: int, piece: int, precision: str, accumulate: int) -> str:
    """Return the run's settings when memory ran out, and what to lower."""
    options = [f"accumulate={accumulate * 2} (the same step with half the memory)"] if piece > 1 else []
    options.append(f"batch={max(1, batch // 2)}")
    if precision == "fp32":
        options.append("precision='bf16'")
    options.append("a smaller encoder or decoder")
    return (
        f"out of memory at step {step} (batch={batch}, {piece} examples at once, precision={precision!r})\n"
        f"  try {', '.join(options)}"
    )
