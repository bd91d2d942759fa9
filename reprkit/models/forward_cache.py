"""The cache of one training forward pass, and the normalization of its losses over ranks."""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from reprkit.errors import BuildError, nearest
from reprkit.interfaces import Term
from reprkit.types import Code, Codes
from reprkit.utils import collectives

if TYPE_CHECKING:
    from reprkit.models.output import Output


@dataclass
class ForwardCache:
    """The codes and metrics of one training forward pass: each distinct view is encoded once, and its losses count once.

    Attributes:
        codes: (id of batch, id of keep, draws) -> codes by factor, and the two objects.
        views: the newly encoded codes of each call of ``Model.encode``, whose latent losses are added to the total.
        metrics: name -> detached value.
        outputs: what ``Model.get_output`` returned in this forward, by the name that was asked for.
    """

    codes: dict[tuple[int, int, int], tuple[dict[str, Code], Any]] = field(default_factory=dict)
    views: list[Codes] = field(default_factory=list)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str | None, Output] = field(default_factory=dict)

    def lookup(self, batch: Any, keep: Any, draws: int = 1) -> dict[str, Code]:
        """Return the codes of this view so far, by factor; the caller adds new ones to the dict."""
        references = (batch, keep)  # keeps both alive, so that their ids stay unique
        return self.codes.setdefault((id(batch), id(keep), draws), ({}, references))[0]


def make_unique_name(name: str, taken: Container[str]) -> str:
    """Return ``name``, or ``name-N`` with the smallest N from 2 that is not in ``taken``."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return name if name not in taken else next(candidate for candidate in numbered if candidate not in taken)


def apply_weight(weight: float, value: Tensor) -> Tensor:
    """Multiply by the weight; no operation where it is 1."""
    return value if weight == 1 else weight * value


def normalize_over_ranks(term: Term) -> Tensor:
    """Turn a (sum, count) pair into this rank's share of the mean over all ranks.

    Gradients averaged over ranks then equal those of the global batch.  A scalar is returned as it is.
    """
    if isinstance(term, Tensor):
        return term
    total, count = term
    ranks = collectives.world_size()
    if ranks == 1 and not isinstance(count, Tensor):
        return total / max(count, 1e-12)
    # Filled on the device: copying a number there would synchronize every step.
    local = count.to(total) if isinstance(count, Tensor) else total.new_full((), float(count))
    overall = collectives.sum_over_ranks(local)
    return total * ranks / overall.clamp(min=1e-12)


def check_weights(weights: Mapping[str, float | str], losses: Mapping[str, Tensor]) -> None:
    """Check that every weight belongs to a loss.

    Raises:
        BuildError: a weight for a loss that does not exist.
    """
    for name in weights:
        if name not in losses:
            raise BuildError(
                f"weights: no loss named {name!r}.{nearest(name, losses)}\n  known losses: {', '.join(losses)}"
            )
