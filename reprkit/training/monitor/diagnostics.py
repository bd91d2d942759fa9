"""Signs that a run is not well though every number is finite: a norm that explodes, a representation that has lost its rank."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.utils.spectrum import effective_rank

TIMES = 100.0  # over its running median a norm explodes
LASTING = 3  # steps one after another, so that a single odd batch is no alarm
WINDOW = 100  # norms of which the median is taken
LEAST = 20  # norms before there is a median
LOST = 0.05  # effective rank under this share of what it could be is a loss
LOWEST = 1.5  # or under this, where there are few dimensions
LOOKS = 3  # one after another
ROWS = 512  # tokens looked at


class TrainingHealthWarning(UserWarning):
    """A run that may be going wrong: what was seen, and what to do."""


class NormMonitor:
    """Tells when a norm is far above its running median for several steps, once."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self._limit: float | None = None
        self._high, self._seen, self._warned = 0, 0, False

    def update(self, norm: float) -> float | None:
        """Take a step's norm into account; how many times the median it is, when that is to be told."""
        if self._limit is not None and norm > self._limit:
            self._high += 1
            if self._high >= LASTING and not self._warned:
                self._warned = True
                return norm / self._limit * TIMES
        else:
            self._high = 0
        self._norms.append(norm)
        self._seen += 1
        if self._seen % LEAST == 0:
            self._limit = TIMES * statistics.median(self._norms) or None
        return None

    def state_dict(self) -> dict[str, Any]:
        """What it has seen, as JSON."""
        return {
            "norms": list(self._norms),
            "limit": self._limit,
            "high": self._high,
            "seen": self._seen,
            "told": self._warned,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self._norms = deque(state["norms"], maxlen=WINDOW)
        self._limit, self._high = state["limit"], state["high"]
        self._seen, self._warned = state["seen"], state["told"]


@torch.no_grad()
def centered_effective_rank(z: Float[Tensor, "n d"]) -> float:
    """In how many dimensions a set of vectors really varies, from 1 to min(n - 1, d); 0 when it does not vary at all.

    The effective rank of the centred vectors: what all have in common tells nothing.  Garrido et al. 2023 (RankMe, arXiv
    2210.02885) use it, uncentred, to judge representations.
    """
    x = z.detach().cpu().double()
    x = x - x.mean(0)
    gram = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    if not float(gram.diagonal().max()) > (1e-9 * max(1.0, float(z.detach().abs().max()))) ** 2:
        return 0.0
    return effective_rank(gram)


class RankMonitor:
    """Tells when a latent's codes have an effective rank far below what they could have, in several looks, once."""

    def __init__(self) -> None:
        self.low, self.warned = 0, False

    def update(self, z: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> tuple[float, int] | None:
        """Look at a batch's codes; (effective rank, dimensions), when that is to be told."""
        if self.warned:
            return None
        rows = z.flatten(0, 1) if mask is None else z[mask]
        rows = rows[:: max(1, len(rows) // ROWS)][:ROWS]
        most = min(rows.shape[1], len(rows) - 1)
        if most < 4:
            return None
        rank = centered_effective_rank(rows)
        self.low = self.low + 1 if rank < max(LOWEST, LOST * most) else 0
        self.warned = self.low >= LOOKS
        return (rank, rows.shape[1]) if self.warned else None
