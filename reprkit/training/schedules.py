"""Learning-rate schedules: a factor on every optimizer's learning rate, as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from reprkit.errors import PartArgumentError, nearest
from reprkit.interfaces import require
from reprkit.registry.references import parse

Schedule = Callable[[int], float]


def constant(progress: float) -> float:
    """Keep the rate constant."""
    return 1.0


def linear(progress: float, final: float = 0.0) -> float:
    """Decay linearly to ``final`` times the rate."""
    return 1.0 + (final - 1.0) * progress


def cosine(progress: float, final: float = 0.0) -> float:
    """Decay by half a cosine to ``final`` times the rate (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts)."""
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def exponential(progress: float, final: float = 0.01) -> float:
    """Decay exponentially to ``final`` times the rate."""
    return final**progress


_SHAPES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "exponential": exponential,
}


def schedule_from(schedule: str | Schedule, steps: int, warmup: int = 0) -> Schedule:
    """Return a function from the step, counted from 0, to the factor, in [0, 1] for the named schedules.

    Args:
        schedule: "constant", "linear", "cosine", "exponential", the last three with ``(final=0.1)`` for the share of the
            rate at their end; or a function from the step to the factor.
        steps: number of steps of the whole run.
        warmup: steps over which the rate first rises linearly from near 0; also for a function.

    Raises:
        PartArgumentError: an unknown name, or an unknown option.
    """
    require(
        isinstance(warmup, int) and 0 <= warmup <= steps,
        f"warmup must be a number of steps from 0 to steps={steps}, not {warmup!r}",
    )
    base = schedule if callable(schedule) else _schedule_from_name(schedule, steps, warmup)

    def factor(step: int) -> float:
        return (step + 1) / (warmup + 1) * base(warmup) if step < warmup else base(step)

    return factor


def _schedule_from_name(text: Any, steps: int, warmup: int) -> Schedule:
    reference = parse(text)
    if reference.name not in _SHAPES or reference.distribution:
        raise PartArgumentError(
            f"no schedule named {reference.qualified!r}.{nearest(reference.name, _SHAPES)}\n"
            f"  known: {', '.join(_SHAPES)}, or a function from the step to a factor"
        )
    shape, options = _SHAPES[reference.name], dict(reference.arguments)
    allowed = {"final"} if reference.name != "constant" else set()
    unknown = sorted(set(options) - allowed)
    require(
        not unknown,
        f"schedule {reference.name} has no option {', '.join(unknown)}; its options: {', '.join(allowed) or 'none'}",
    )
    final = options.get("final")
    if final is not None:
        lowest = 0.0 if reference.name != "exponential" else 1e-12
        valid = isinstance(final, int | float) and lowest <= final <= 1
        require(
            valid,
            f"schedule {reference.name}: final must be a share of the rate in [{lowest:g}, 1], not {final!r}",
        )
    span = max(1, steps - warmup)

    def base(step: int) -> float:
        return shape(min(1.0, max(0, step - warmup) / span), **options)

    return base
