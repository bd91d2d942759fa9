"""Is the run well?  Losses that are not finite, and memory that ran out, said so that one knows what to do."""

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
from reprkit.training.fsdp import local_shard
from reprkit.training.monitor.diagnostics import NormMonitor
from reprkit.types import Losses

NORM = "gradient's norm"
FEW = 8  # of a batch's examples named in a message
LOOK_EVERY = 50  # steps between two looks at the losses on a GPU, where each look waits for the device


@dataclass(frozen=True)
class NonFinite:
    """A loss (or gradient) that was not finite: at which step, in which terms, and where it began as far as that can be told."""

    step: int
    value: float
    terms: tuple[str, ...] = ()
    origin: str = ""
    what: str = "loss"

    def message(self, out: Any = None, saved: int | None = None, indices: Sequence[int] = ()) -> str:
        """What happened, with which examples, and what to do next."""
        terms = f" (not finite: {', '.join(self.terms)})" if self.terms else ""
        lines = [f"the {self.what} is {self.value} at step {self.step}{terms}"]
        if self.origin:
            lines.append(self.origin)
        if indices:
            few = ", ".join(map(str, indices[:FEW]))
            rest = f", ... (all {len(indices)} {'in run.json, failure' if out else 'in run.json, with out='})"
            lines.append(
                f"this step's batch held examples {few}{rest if len(indices) > FEW else ''} of the data"
            )
        lines.append("try a lower lr=, clip=1.0, a warmup=, precision='fp32', or look at this step's batch")
        if saved is not None:
            lines.append(f"the state of step {saved} is good, in {out}: resume=True goes on from there")
        return "\n  ".join(lines)


@dataclass(frozen=True)
class Diagnostic:
    """A norm that has exploded: at which step, of what, and what to do."""

    step: int
    what: str
    text: str


class ValueMonitor:
    """Looks at every step's loss and norm: at once on the CPU, else in bundles, so that no step waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._prompt = device.type == "cpu"
        self._pending: list[tuple[int, Tensor, Mapping[str, Tensor], str]] = []
        self._norms: dict[str, NormMonitor] = {}
        self._diagnostics: list[Diagnostic] = []

    def check(self, step: int, value: Tensor, seen: Losses | None, what: str = "loss") -> NonFinite | None:
        """Take a loss (or a gradient's norm) into account; the problem, when one shows."""
        terms = seen.terms if seen else {}
        if self._prompt:
            return self._check_value(step, float(value.detach()), terms, what)
        self._pending.append((step, value.detach(), terms, what))
        return self.check_pending() if len(self._pending) >= LOOK_EVERY else None

    def check_pending(self) -> NonFinite | None:
        """Look at all that was not looked at yet."""
        pending, self._pending = self._pending, []
        if not pending:
            return None
        values = torch.stack([value.float().reshape(()) for _, value, _, _ in pending]).tolist()
        for (step, _, terms, what), value in zip(pending, values, strict=True):
            problem = self._check_value(step, value, terms, what)
            if problem is not None:
                return problem
        return None

    def take_diagnostics(self) -> list[Diagnostic]:
        """What was seen since it was asked for last."""
        seen, self._diagnostics = self._diagnostics, []
        return seen

    def state_dict(self) -> dict[str, Any]:
        """What is remembered of the norms, as JSON."""
        return {what: each.state_dict() for what, each in self._norms.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        for what, seen in state.items():
            self._norms.setdefault(what, NormMonitor()).load_state_dict(seen)

    def _check_value(
        self, step: int, value: float, terms: Mapping[str, Tensor], what: str
    ) -> NonFinite | None:
        if not math.isfinite(value):
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


def _non_finite_terms(terms: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(name for name, value in terms.items() if not math.isfinite(float(value)))


def non_finite_names(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of those that are not finite, in one transfer from the device; of what is cut, this process's shard is looked at."""
    held = ((name, local_shard(t.detach())) for name, t in tensors if t.is_floating_point())
    real = [(name, t) for name, t in held if t.numel()]
    if not real:
        return []
    worst = torch.stack([t.abs().amax().float() for _, t in real]).tolist()  # nan if any is
    return [name for (name, _), value in zip(real, worst, strict=True) if not math.isfinite(value)]


@torch.no_grad()
def find_origin(
    model: Model,
    batch: Mapping[str, Tensor],
    turn: str = "main",
    *,
    rerun: bool = True,
    indices: Sequence[int] = (),
) -> str:
    """Where values stop being finite: in the batch, in a part's weights, or in what a part makes of finite input.

    Meant for a run that stops anyway: ``rerun`` sends the batch through the model once more (not possible while other ranks wait).
    ``indices`` are the batch's examples, to name the one at fault.
    """
    for name, value in batch.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            rows = (~value.isfinite()).flatten(1).any(1).nonzero().flatten().tolist() if value.ndim else []
            named = [indices[row] for row in rows[:FEW]] if len(indices) == len(value) else []
            which = f" of example{'s' * (len(rows) > 1)} {', '.join(map(str, named))}" if named else ""
            return f"the batch itself is not finite: field {name!r}{which}{', ...' if len(rows) > len(named) > 0 else ''}"
    names = non_finite_names(model.named_parameters())  # not the buffers: they have seen this batch already
    if names:
        return (
            f"weights are not finite already: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}; a gradient of an earlier "
            "step was not"
        )
    if not rerun:
        return ""
    found: list[str] = []
    parts = {
        each: name
        for name, each in model.named_modules()
        if isinstance(each, Part) and each is not model.objective
    }

    def look(part: nn.Module, _: Any, made: Any) -> None:
        if not found and not all(bool(t.isfinite().all()) for t in _float_tensors(made)):
            assert isinstance(part, Part)
            found.append(
                f"it begins in {part.kind} {part.qualified or type(part).__name__} ({parts[part]}): its output is not finite"
            )

    hooks = [part.register_forward_hook(look) for part in parts]
    try:
        losses = model(batch, turn)
    except Exception:  # what is sick may also raise; the first complaint counts
        losses = None
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return found[0]
    if losses is not None and math.isfinite(float(losses.total)):
        return "the same batch gives a finite loss now: it depends on a random draw"
    return f"all parts' outputs are finite: it begins in objective {model.objective.title}"


def _float_tensors(made: Any) -> Iterator[Tensor]:
    for each in torch.utils._pytree.tree_leaves(made):
        if isinstance(each, Tensor) and each.is_floating_point():
            yield each


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(
        re.search(r"out of memory|can't allocate memory", str(error), re.IGNORECASE)
    )


def memory_advice(step: int, batch: int, piece: int, precision: str, accumulate: int) -> str:
    """How the run stood when memory ran out, and what to lower."""
    tries = [f"accumulate={accumulate * 2} (the same step from half the memory)"] if piece > 1 else []
    tries.append(f"batch={max(1, batch // 2)}")
    if precision == "fp32":
        tries.append("precision='bf16'")
    tries.append("a smaller encoder or decoder")
    return (
        f"out of memory at step {step} (batch={batch}, {piece} examples at once, precision={precision!r})\n"
        f"  try {', '.join(tries)}"
    )
