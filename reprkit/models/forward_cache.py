"""What one training forward gathers, and how its losses are normalised over ranks."""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from reprkit.errors import BuildError, nearest
from reprkit.interfaces import Term
from reprkit.types import Code, Codes
from reprkit.utils import collectives


@dataclass
class ForwardCache:
    """One training forward: each distinct view is encoded once, and its losses count once."""

    codes: dict[tuple[int, int], tuple[dict[str, Code], Any]] = field(default_factory=dict)
    views: list[Codes] = field(default_factory=list)
    metrics: dict[str, Tensor] = field(default_factory=dict)

    def known(self, batch: Any, keep: Any) -> dict[str, Code]:
        """Factor -> its code of this view, as far as it was encoded; to be filled in."""
        held = (batch, keep)  # holding them keeps their ids theirs
        return self.codes.setdefault((id(batch), id(keep)), ({}, held))[0]


def unused(name: str, taken: Container[str]) -> str:
    """The name itself, or with the first number from 2 that makes it a new one."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return name if name not in taken else next(each for each in numbered if each not in taken)


def weighted(weight: float, value: Tensor) -> Tensor:
    """The product, without an operation where the weight is 1."""
    return value if weight == 1 else weight * value


def normalised(term: Term) -> Tensor:
    """A (sum, count) pair as this rank's share of the mean over all ranks; averaged gradients are the joined batch's."""
    if isinstance(term, Tensor):
        return term
    total, count = term
    ranks = collectives.world_size()
    if ranks == 1 and not isinstance(count, Tensor):
        return total / max(count, 1e-12)
    # A number is filled in on the device: copied there, it would make every step wait for the device.
    here = count.to(total) if isinstance(count, Tensor) else total.new_full((), float(count))
    everyone = collectives.sum_over_ranks(here)
    return total * ranks / everyone.clamp(min=1e-12)


def check_weights(weights: Mapping[str, float], losses: Mapping[str, Tensor]) -> None:
    """Refuse a weight for a loss that does not exist.

    Raises:
        BuildError: there is one.
    """
    for name in weights:
        if name not in losses:
            raise BuildError(
                f"weights: no loss named {name!r}.{nearest(name, losses)}\n  losses: {', '.join(losses)}"
            )
