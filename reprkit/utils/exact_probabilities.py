"""Integer probabilities from logits that two machines compute with different rounding errors.

Logits in float64 differ between machines, numbers of threads and batch sizes by about 1e-13.  They are rounded to multiples of
1/64 nat, which costs about 1e-5 nats a symbol, and all that follows is integer arithmetic.  Two computations then disagree only
where a logit lies within its error of the middle between two multiples: about once in 10^9 symbols of a vocabulary of 100.
"""

from __future__ import annotations

import functools
from decimal import Context, Decimal

import numpy as np
from numpy.typing import NDArray

from reprkit.utils.symbol_coder import PRECISION, Integers

GRID = 64  # steps a nat
_LOWEST = 24 * GRID  # e^-24 is below the coder's smallest probability
_BITS = 30  # of a weight


def logits_to_edges(logits: NDArray[np.float64]) -> Integers:
    """Convert logits (b v) to cumulative probabilities of ``PRECISION`` bits (b v+1), each symbol's at least 1."""
    steps = np.floor(logits * GRID + 0.5)
    below = np.minimum(steps.max(1, keepdims=True) - steps, _LOWEST).astype(np.int64)
    return weights_to_edges(_exponentials()[below])


def weights_to_edges(weights: Integers) -> Integers:
    """Convert weights (b v) below 2^39 in sum to cumulative probabilities (b v+1), as ``logits_to_edges``."""
    rows, entries = weights.shape
    scaled = weights * (2**PRECISION - entries) // weights.sum(1, keepdims=True) + 1
    scaled[np.arange(rows), weights.argmax(1)] += 2**PRECISION - scaled.sum(1)
    return np.concatenate([np.zeros((rows, 1), np.int64), scaled.cumsum(1)], 1)


@functools.cache
def _exponentials() -> Integers:
    """Return 2^30 e^(-i/64), rounded, from decimal arithmetic: that of the C library differs between systems."""
    context = Context(prec=40)
    values = (context.exp(Decimal(-step) / GRID) * 2**_BITS for step in range(_LOWEST + 1))
    return np.array([int(value.to_integral_value()) for value in values], np.int64)
