"""Diagnostics of a run whose values are all finite: exploding gradient norms, and representations of low rank."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.models.grid import to_tokens
from reprkit.utils.spectrum import effective_rank

TIMES = 100.0  # times its running median: a norm has exploded
LASTING = 3  # consecutive steps, so that a single odd batch raises no warning
WINDOW = 100  # norms in the running median
LEAST = 20  # norms before the first median, and between two updates of it
LOST = 0.05  # effective rank below this share of its maximum counts as lost
LOWEST = 1.5  # or below this, if there are few dimensions
LOOKS = 3  # consecutive checks
ROWS = 512  # tokens per check
INPUT_SHARE = 0.5  # codes with this share of the effective rank of their input raise no warning
MAX_SYMBOLS = 256  # fields with more symbols have no rank of their input


class TrainingHealthWarning(UserWarning):
    """A run may be failing; the message says what was observed and what to do."""


class NormMonitor:
    """Report once when a norm is far above its running median for several steps and does not fall meanwhile."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self._limit: float | None = None
        self._seen, self._warned = 0, False
        self._high: deque[float] = deque(maxlen=LASTING)  # the last consecutive norms above the limit

    def update(self, norm: float) -> float | None:
        """Add a step's norm; return its ratio to the median if a warning is due, else None."""
        if self._limit is not None and norm > self._limit:
            self._high.append(norm)
            if len(self._high) == LASTING and not self._warned and not _falls(self._high):
                self._warned = True
                return norm / self._limit * TIMES
        else:
            self._high.clear()
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
            "high": list(self._high),
            "seen": self._seen,
            "told": self._warned,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from ``state_dict``."""
        self._norms = deque(state["norms"], maxlen=WINDOW)
        self._limit, high = state["limit"], state["high"]
        self._high.clear()
        self._high.extend([] if isinstance(high, int) else high)  # earlier versions saved their number
        self._seen, self._warned = state["seen"], state["told"]


def _falls(norms: Sequence[float]) -> bool:
    """Whether norms fall from step to step, or have halved."""
    return norms[-1] < max(norms) / 2 or all(one > two for one, two in itertools.pairwise(norms))


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


def _choose_rows(rows: Tensor) -> Tensor:
    return rows[:: max(1, len(rows) // ROWS)][:ROWS]


@torch.no_grad()
def effective_rank_of_field(x: Tensor, field: Field, grid: tuple[int, ...], mask: Tensor | None) -> float:
    """Effective rank of the data behind the tokens of a code; symbols are one-hot.  Infinite where it is not known.

    Args:
        x: values of the field, as in a batch (b ...).
        field: its description.
        grid: layout of the code's tokens over the data; (1,) or (1, 1) for one token an example.
        mask: (b t) where lengths vary, (b d) for missing values.
    """
    if field.discrete:
        if field.vocab is None or field.vocab > MAX_SYMBOLS:
            return math.inf
        one_hot = torch.nn.functional.one_hot(x.clamp(0, field.vocab - 1), field.vocab).float()
    else:
        one_hot = x.float().unsqueeze(-1)
    if mask is not None:
        one_hot = one_hot * mask.reshape(*mask.shape, *[1] * (one_hot.ndim - mask.ndim))
    if math.prod(grid) == 1:
        rows = one_hot.flatten(1)
    else:
        try:
            blocks = [to_tokens(part, grid, field.kind) for part in one_hot.unbind(-1)]
        except BuildError:  # tokens that are no blocks of the data
            return math.inf
        rows = torch.stack(blocks, -1).flatten(2).flatten(0, 1)
    return centered_effective_rank(_choose_rows(rows))


class RankMonitor:
    """Report once when a latent's codes have an effective rank far below its maximum in several consecutive checks."""

    def __init__(self) -> None:
        self.low, self.warned = 0, False

    def update(
        self,
        z: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n"] | None,
        input_rank: Callable[[], float] | None = None,
    ) -> tuple[float, int] | None:
        """Check a batch's codes; return (effective rank, dimensions) if a warning is due, else None.

        ``input_rank`` computes the effective rank of what was encoded, infinite where it is not known; codes of the same rank have
        lost nothing.
        """
        if self.warned:
            return None
        rows = _choose_rows(z.flatten(0, 1) if mask is None else z[mask])
        most = min(rows.shape[1], len(rows) - 1)
        if most < 4:
            return None
        rank = centered_effective_rank(rows)
        low = rank < max(LOWEST, LOST * most)
        if low and input_rank is not None:
            low = rank < INPUT_SHARE * input_rank()
        self.low = self.low + 1 if low else 0
        self.warned = self.low >= LOOKS
        return (rank, rows.shape[1]) if self.warned else None
