"""Weights of losses: numbers, or schedules such as ``"0.5 * warmup(2000)"``.  Torch-free, since manifests are checked with it."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reprkit.errors import BuildError, nearest

_NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?"
_SCHEDULE = re.compile(
    rf"\s*(?:(?P<scale>{_NUMBER})\s*\*\s*)?(?P<name>[a-z]+)\s*\(\s*(?:steps\s*=\s*)?(?P<steps>\d+)\s*\)\s*"
)


def warmup(step: int, steps: int) -> float:
    """Rise linearly from 0 at step 0 to 1 at ``steps`` (Bowman et al. 2016, arXiv 1511.06349, section 3.1)."""
    return min(1.0, step / steps)


def decay(step: int, steps: int) -> float:
    """Fall linearly from 1 at step 0 to 0 at ``steps``."""
    return max(0.0, 1.0 - step / steps)


def cyclic(step: int, steps: int) -> float:
    """In every cycle of ``steps``, rise linearly from 0 to 1 in the first half, and stay (Fu et al. 2019, arXiv 1903.10145)."""
    return min(1.0, 2.0 * (step % steps) / steps)


_SHAPES: dict[str, Callable[[int, int], float]] = {"warmup": warmup, "decay": decay, "cyclic": cyclic}
_FINAL = {"warmup": 1.0, "decay": 0.0, "cyclic": 1.0}


@dataclass(frozen=True)
class LossWeight:
    """The weight of a loss as a function of the step.

    Attributes:
        scale: the number; the weight of a schedule at its largest.
        shape: name of the schedule; None for a constant weight.
        steps: length of the schedule, or of one cycle.
    """

    scale: float
    shape: str | None = None
    steps: int = 1

    def at(self, step: int) -> float:
        """Return the weight at an optimizer step, counted from 0."""
        return self.scale if self.shape is None else self.scale * _SHAPES[self.shape](step, self.steps)

    @property
    def final(self) -> float:
        """The weight after the schedule, which evaluation uses."""
        return self.scale if self.shape is None else self.scale * _FINAL[self.shape]


def parse_weight(name: str, value: object) -> LossWeight:
    """Read the weight of loss ``name``: a finite number, or ``"[number *] warmup(steps)"``, ``decay`` or ``cyclic``.

    Raises:
        BuildError: it is neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return LossWeight(float(value))
    read = _SCHEDULE.fullmatch(value) if isinstance(value, str) else None
    if read is None:
        raise BuildError(
            f"weights: {name!r} must be a finite number, or a schedule such as 'warmup(2000)' or '0.5 * warmup(2000)', "
            f"not {value!r}"
        )
    shape, steps, scale = read["name"], int(read["steps"]), float(read["scale"] or 1.0)
    if shape not in _SHAPES:
        raise BuildError(
            f"weights: {name!r} has no schedule named {shape!r}.{nearest(shape, _SHAPES)}\n  known: {', '.join(_SHAPES)}"
        )
    if steps < 1 or not math.isfinite(scale):
        raise BuildError(
            f"weights: {name!r}: {value!r} needs at least one step, and a finite number before '*'"
        )
    return LossWeight(scale, shape, steps)


def parse_weights(weights: Mapping[str, object]) -> dict[str, LossWeight]:
    """Read all weights, by the names of their losses.

    Raises:
        BuildError: a value is neither a finite number nor a schedule.
    """
    return {name: parse_weight(name, value) for name, value in weights.items()}
