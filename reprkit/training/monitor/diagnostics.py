"""Diagnostics of a run whose values are all finite: exploding gradient norms, and representations of low rank."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.utils.spectrum import effective_rank

TIMES = 100.0  # times its running median: a norm has exploded
LASTING = 3  # consecutive steps, so that a single odd batch raises no warning
WINDOW = 100  # norms in the running median
LEAST = 20  # norms before the first median, and between two updates of it
LOST = 0.05  # effective rank below this share of its maximum counts as lost
LOWEST = 1.5  # or below this, if there are few dimensions
LOOKS = 3  # consecutive checks
ROWS = 512  # tokens per check


class TrainingHealthWarning(UserWarning):
    """A run may be failing; the message says what was observed and what to do."""


class NormMonitor:
    """Report once when a norm is far above its running median for several steps."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self._limit: float | None = None
        self._high, self._seen, self._warned = 0, 0, False

    def update(self, norm: float) -> float | None:
        """Add a step's norm; return its ratio to the median if a warning is due, else None."""
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
        """Return the state as JSON."""
        return {
            "norms": list(self._norms),
            "limit": self._limit,
            "high": self._high,
            "seen": self._seen,
            "told": self._warned,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from ``state_dict``."""
        self._norms = deque(state["norms"], maxlen=WINDOW)
        self._limit, self._high = state["limit"], state["high"]
        self._seen, self._warned = state["seen"], state["told"]


@torch.no_grad()
def centered_effective_rank(z: Float[Tensor, "n d"]) -> float:
    """Effective rank of centered vectors, from 1 to min(n - 1, d); 0 if they do not vary at all.

    Centered, since what all vectors have in common carries no information.  Garrido et al. 2023 (RankMe, arXiv 2210.02885) use
    it, without centering, to rate representations.
    """
    x = z.detach().cpu().double()
    x = x - x.mean(0)
    gram = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    if not float(gram.diagonal().max()) > (1e-9 * max(1.0, float(z.detach().abs().max()))) ** 2:
        return 0.0
    return effective_rank(gram)


class RankMonitor:
    """Report once when a latent's codes have an effective rank far below its maximum in several consecutive checks."""

    def __init__(self) -> None:
        self.low, self.warned = 0, False

    def update(self, z: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> tuple[float, int] | None:
        """Check a batch's codes; return (effective rank, dimensions) if a warning is due, else None."""
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
