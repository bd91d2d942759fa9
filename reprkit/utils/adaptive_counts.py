"""Probabilities that adapt to the data being coded: counts of symbols after their last few symbols, mixed with a model's.

Prediction by partial matching (Cleary & Witten 1984) with interpolation: the estimate after a context of ``n`` symbols discounts
its counts, and gives what is left to the estimate after ``n - 1`` symbols; the model's probabilities stand at the end of the chain.
That estimate and the model's are mixed in the logarithms, with weights that follow the gradient of the code's length (Mahoney 2005,
PAQ).  Writer and reader make the same updates; several streams share counts and weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reprkit.utils.symbol_coder import Integers

Floats = NDArray[np.float64]

ORDERS = 6
_DISCOUNTS = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8)  # of counts after 1, 2, ... symbols
_CONTEXTS = 2**19  # that are counted at most
_RATE = 0.004  # of the weights
_LEAST = 1e-12
_MOST = 2**16 - 2**8  # a count, which the streams of one step may exceed together


class AdaptiveCounts:
    """Counts after contexts of 1 to ``ORDERS`` symbols, for streams that advance together.

    Args:
        vocab: number of symbols.
        streams: number of streams.
    """

    def __init__(self, vocab: int, streams: int) -> None:
        self._rows: dict[tuple[int, int], int] = {}
        self._counts = np.zeros(
            (1024, 16), np.uint16
        )  # row 0 is that of an unknown context; columns are symbols seen so far
        self._column = np.full(vocab, -1)
        self._seen = np.zeros(0, np.int64)
        self._history = [0] * streams
        self._length = 0
        self._base = vocab
        self._weights = np.tile(np.array([1.0, 0.0]), (2 * (ORDERS + 1), 1))
        self._logs = np.zeros((2, streams, vocab))

    def mix(self, logs: Floats) -> Floats:
        """Return log-probabilities up to a constant (b v), from the model's (b v)."""
        estimate = np.exp(logs)
        self._found = self._find()
        matched, sure = np.zeros(len(logs), np.int64), np.zeros(len(logs), bool)
        for order, rows in enumerate(self._found):
            counts = self._counts[rows, : len(self._seen)].astype(np.float64)
            total, distinct = counts.sum(1, keepdims=True), (counts > 0).sum(1, keepdims=True)
            known = total[:, 0] > 0
            if not known.any():
                break
            discount = _DISCOUNTS[order]
            divisor = np.maximum(total, 1)
            lower = np.where(total > 0, discount * distinct / divisor, 1.0)
            estimate = lower * estimate
            estimate[:, self._seen] += np.maximum(counts - discount, 0) / divisor
            matched[known], sure[known] = order + 1, distinct[known, 0] == 1
        self._logs = np.stack([logs, np.log(np.maximum(estimate, _LEAST))])
        self._set = 2 * matched + sure
        return np.einsum("bk,kbv->bv", self._weights[self._set], self._logs)

    def update(self, mixed: Floats, symbols: Integers, active: int) -> None:
        """Learn the symbols (b) that followed, of the first ``active`` streams."""
        streams = np.arange(active)
        shares = np.exp(mixed - mixed.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        gains = self._logs[:, streams, symbols[:active]] - (shares * self._logs).sum(2)[:, :active]
        np.add.at(self._weights, self._set[:active], _RATE * gains.T)
        self._count(symbols, active)
        for stream in range(active):
            self._history[stream] = (
                self._history[stream] * self._base + int(symbols[stream])
            ) % self._base**ORDERS
        self._length += 1

    def _find(self) -> list[Integers]:
        """Return the row of each stream's context (b), for each order."""
        found, get = [], self._rows.get
        for order in range(1, min(ORDERS, self._length) + 1):
            size = self._base**order
            found.append(np.array([get((order, past % size), 0) for past in self._history]))
        return found

    def _count(self, symbols: Integers, active: int) -> None:
        for symbol in symbols[:active].tolist():
            if self._column[symbol] < 0:
                self._column[symbol] = len(self._seen)
                self._seen = np.append(self._seen, symbol)
        if len(self._seen) > self._counts.shape[1]:
            self._counts = np.pad(self._counts, ((0, 0), (0, self._counts.shape[1])))
        columns = self._column[symbols[:active]]
        waiting = np.arange(active)
        # A shorter context is counted only where the longer ones did not know the symbol.
        for order in range(len(self._found), 0, -1):
            rows = self._found[order - 1][waiting]
            new = self._counts[rows, columns[waiting]] == 0
            size = self._base**order
            for place in (rows == 0).nonzero()[0].tolist():
                key = order, self._history[waiting[place]] % size
                rows[place] = self._rows.get(key, 0) or self._add(key)
            kept = (rows > 0) & (self._counts[rows, columns[waiting]] < _MOST)
            np.add.at(self._counts, (rows[kept], columns[waiting[kept]]), 1)
            waiting = waiting[new]
            if not len(waiting):
                return

    def _add(self, key: tuple[int, int]) -> int:
        row = len(self._rows) + 1
        if row >= _CONTEXTS:
            return 0
        self._rows[key] = row
        if row >= len(self._counts):
            self._counts = np.pad(self._counts, ((0, len(self._counts)), (0, 0)))
        return row
