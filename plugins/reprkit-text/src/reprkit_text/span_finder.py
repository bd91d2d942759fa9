"""Find the span of a document that reads most like a human summary, from summaries of other documents alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reprkit.errors import DataError
from reprkit_text.ngrams import END, START, Ngrams
from reprkit_text.vocabulary import Vocabulary

_STOPS = frozenset(".;!?")
_OUTSIDE = -1  # the symbol beside a span that begins or ends the document
_PRIOR = 20.0  # pseudo-counts of the shares of neighbors

Span = tuple[int, int]  # first symbol, number of symbols
Neighbors = Callable[[Sequence[int], Span], float]


@dataclass(frozen=True)
class SpanLimits:
    """Which spans are considered.

    Attributes:
        low: smallest number of symbols.
        high: largest number of symbols.
        start: last position at which a span may begin, counted from 0.
        bonus: nats added for each symbol; more gives longer spans.
    """

    low: int = 6
    high: int = 13
    start: int = 13
    bonus: float = 0.0


class SpanFinder:
    """Finds in each document the span most like a human summary; no pair of a document and its summary is needed.

    The score of a span is the log-likelihood ratio of its symbols, and of the end after them, between human summaries and
    documents: the sum of log p(symbol | two before it, in summaries) - log p(symbol in documents) + ``bonus``.  A span begins
    and ends where words do, and holds no end of a sentence.

    Each of ``rounds`` then chooses the best span of every document, and adds to the score how much more often the symbols
    beside a span ("is a", a period) and its position occur at chosen spans than at all of them: hard expectation maximization.

    Args:
        human: the symbols of human summaries.
        documents: the symbols of documents.
        vocabulary: the vocabulary of both.
        limits: see ``SpanLimits``.
        rounds: see above; 0: the log-likelihood ratio alone.

    Raises:
        DataError: no documents or no summaries.
    """

    def __init__(
        self,
        human: Sequence[Sequence[int]],
        documents: Sequence[Sequence[int]],
        vocabulary: Vocabulary,
        limits: SpanLimits,
        rounds: int = 0,
    ) -> None:
        if not documents:
            raise DataError("spans are found in documents, and there are none")
        self.limits = limits
        self._human = Ngrams(human, vocabulary.size)
        self._counts: Counter[int] = Counter()
        for row in documents:
            self._counts.update(row)
        self._total = math.log(self._counts.total() + vocabulary.size / 2)
        joins, open_ended = (table.tolist() for table in vocabulary.word_boundaries)
        self._joins, self._open_ended = joins, open_ended
        self._stops = frozenset(
            symbol for symbol in range(vocabulary.size) if vocabulary.decode([symbol]) in _STOPS
        )
        self._neighbors: Neighbors | None = None
        scored = [self._scores(row) for row in documents] if rounds else []
        for _ in range(rounds):
            chosen = [self._choose(row, scores) for row, scores in zip(documents, scored, strict=True)]
            self._neighbors = _count_neighbors(documents, scored, chosen)

    def find(self, row: Sequence[int]) -> Span:
        """Return first symbol and length of the best span; the beginning of a document in which none is long enough."""
        return self._choose(row, self._scores(row))

    def _choose(self, row: Sequence[int], scores: dict[Span, float]) -> Span:
        if not scores:
            return 0, min(self.limits.high, len(row))
        neighbors = self._neighbors
        if neighbors is None:
            return max(scores, key=scores.__getitem__)
        return max(scores, key=lambda span: scores[span] + neighbors(row, span))

    def _scores(self, row: Sequence[int]) -> dict[Span, float]:
        """Return the log-likelihood ratio of every span that is considered, nats."""
        limits, scores = self.limits, {}
        begins = [i == 0 or not self._continues(row[i - 1], row[i]) for i in range(len(row))] + [True]
        for first in (i for i in range(min(limits.start + 1, len(row))) if begins[i]):
            gain, before = 0.0, (START, START)
            for last in range(first, min(first + limits.high, len(row))):
                symbol = row[last]
                if symbol in self._stops:
                    break
                gain += self._document_cost(symbol) - self._human.cost((*before, symbol)) + limits.bonus
                before = (before[1], symbol)
                count = last - first + 1
                if count >= limits.low and begins[last + 1]:
                    scores[first, count] = gain - self._human.cost((*before, END))
        return scores

    def _document_cost(self, symbol: int) -> float:
        """Return the cost of a symbol in documents, nats, with a count of 1/2 added to each symbol."""
        return self._total - math.log(self._counts[symbol] + 0.5)

    def _continues(self, before: int, symbol: int) -> bool:
        """Whether the second of two symbols continues the word of the first."""
        return bool(self._open_ended[before] and self._joins[symbol])


def _count_neighbors(
    documents: Sequence[Sequence[int]], scored: Sequence[dict[Span, float]], chosen: Sequence[Span]
) -> Neighbors:
    """Return the log-ratio of a span's neighbors and position, between chosen spans and all spans."""
    tables: list[tuple[Counter[int], Counter[int]]] = []
    for feature in _FEATURES:
        among_all: Counter[int] = Counter()
        among_chosen: Counter[int] = Counter()
        for row, scores, best in zip(documents, scored, chosen, strict=True):
            if scores:
                among_all.update(feature(row, span) for span in scores)
                among_chosen[feature(row, best)] += 1
        tables.append((among_all, among_chosen))

    def ratio(row: Sequence[int], span: Span) -> float:
        total = 0.0
        for feature, (among_all, among_chosen) in zip(_FEATURES, tables, strict=True):
            key = feature(row, span)
            share = (among_all[key] + 0.5) / (among_all.total() + 0.5)
            smoothed = (among_chosen[key] + _PRIOR * share) / (among_chosen.total() + _PRIOR)
            total += math.log(smoothed / share)
        return total

    return ratio


def _symbol_before(row: Sequence[int], span: Span) -> int:
    return row[span[0] - 1] if span[0] else _OUTSIDE


def _symbol_after(row: Sequence[int], span: Span) -> int:
    end = span[0] + span[1]
    return row[end] if end < len(row) else _OUTSIDE


def _position(row: Sequence[int], span: Span) -> int:
    return span[0]


_FEATURES = (_symbol_before, _symbol_after, _position)
