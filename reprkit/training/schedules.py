"""Learning-rate schedules: the factor on every optimiser's rate, a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from reprkit.errors import PartArgumentError, nearest
from reprkit.interfaces import require
from reprkit.registry.references import parse

Schedule = Callable[[int], float]


def constant(progress: float) -> float:
    """Always the given rate."""
    return 1.0


def linear(progress: float, final: float = 0.0) -> float:
    """Straight down to ``final`` of the rate."""
    return 1.0 + (final - 1.0) * progress


def cosine(progress: float, final: float = 0.0) -> float:
    """Half a cosine down to ``final`` of the rate (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts)."""
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def exponential(progress: float, final: float = 0.01) -> float:
    """By equal factors down to ``final`` of the rate."""
    return final**progress


_SHAPES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "exponential": exponential,
}


def schedule_from(schedule: str | Schedule, steps: int, warmup: int = 0) -> Schedule:
    """The factor at each step counted from 0, in [0, 1] for the named ones.

    Args:
        schedule: "constant", "linear", "cosine", "exponential", the last three with ``(final=0.1)`` for where they end as a share
            of the rate; or a function from the step to the factor.
        steps: of the whole run.
        warmup: steps over which the rate first rises in a line from near 0; for a function too.

    Raises:
        PartArgumentError: an unknown name, or an option that it does not have.
    """
    require(
        isinstance(warmup, int) and 0 <= warmup <= steps,
        f"warmup is a number of steps from 0 to steps={steps}, not {warmup!r}",
    )
    after = schedule if callable(schedule) else _schedule_from_name(schedule, steps, warmup)

    def factor(step: int) -> float:
        return (step + 1) / (warmup + 1) * after(warmup) if step < warmup else after(step)

    return factor


def _schedule_from_name(text: Any, steps: int, warmup: int) -> Schedule:
    reference = parse(text)
    if reference.name not in _SHAPES or reference.distribution:
        raise PartArgumentError(
            f"no schedule named {reference.qualified!r}.{nearest(reference.name, _SHAPES)}\n"
            f"  known: {', '.join(_SHAPES)}, or a function from the step to a factor"
        )
    shape, given = _SHAPES[reference.name], dict(reference.arguments)
    allowed = {"final"} if reference.name != "constant" else set()
    unknown = sorted(set(given) - allowed)
    require(
        not unknown,
        f"schedule {reference.name} has no option {', '.join(unknown)}; it has: {', '.join(allowed) or 'none'}",
    )
    final = given.get("final")
    if final is not None:
        lowest = 0.0 if reference.name != "exponential" else 1e-12
        fits = isinstance(final, int | float) and lowest <= final <= 1
        require(
            fits, f"schedule {reference.name}: final is a share of the rate in [{lowest:g}, 1], not {final!r}"
        )
    span = max(1, steps - warmup)

    def after(step: int) -> float:
        return shape(min(1.0, max(0, step - warmup) / span), **given)

    return after
