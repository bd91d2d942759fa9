"""Find the span of a document that reads most like a human summary, from summaries of other documents alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data.collation import to_index
from reprkit.interfaces import require
from reprkit.registry.constraints import Count, CountOrZero
from reprkit_text.data.documents_in_memory import DocumentDataset
from reprkit_text.decoded_text import field_symbols
from reprkit_text.ngrams import END, START, Ngrams
from reprkit_text.vocabulary import Vocabulary

_STOPS = frozenset(".;!?")


class SpanTargets(Dataset):
    """Documents with a field ``slot`` (2,) more: first symbol and length of the span most like a human summary.

    The span maximizes the log-likelihood ratio of its symbols, and of the end after them, between human summaries and documents:
    the sum of log p(symbol | two before it, in summaries) - log p(symbol in documents).  Both are counted on these documents and
    the summaries shown with them, which are of other documents: a pair is never seen.  A span begins and ends where words do,
    and holds no end of a sentence.  Objective ``summary(slot='slot')`` reads it.

    Args:
        data: a training part of documents or debian.
        low: smallest number of symbols of a span.
        high: largest number of them.
        start: last position at which a span may begin, counted from 0.
        field: the field of human summaries.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: no such field.
    """

    def __init__(
        self,
        data: DocumentDataset,
        *,
        low: Count = 6,
        high: Count = 13,
        start: CountOrZero = 13,
        field: str = "summary",
    ) -> None:
        require(low <= high, f"span targets: high={high} must be at least low={low}")
        self.data, self.facts, self.reference = data, data.facts, data.reference
        human, documents = field_symbols(data, field), field_symbols(data, "x")
        vocab = data.signature["x"].vocab
        require(vocab is not None, "span targets need a field of symbols")
        assert vocab is not None
        model, document_cost = Ngrams(human, vocab), _symbol_costs(documents, vocab)
        stops, continues = _word_borders(data.vocabulary)
        spans = [
            _best_span(row, model, document_cost, stops, continues, low=low, high=high, start=start)
            for row in documents
        ]
        self.spans = torch.tensor(spans)
        longest = int(self.spans.max()) + 1
        slot = Field(kind="tokens", shape=(2,), vocab=longest)
        self.signature = Signature({**dict(data.signature.items()), "slot": slot})

    def __len__(self) -> int:
        """Return how many documents there are."""
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one document with its span."""
        return self.data[index] | {"slot": self.spans[index]}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at indices (b,), padded, with their spans (b 2)."""
        index = to_index(indices)
        return self.data.batch(index) | {"slot": self.spans[index]}

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Return the number of symbols of every document, and of the summary shown with it."""
        return dict(self.data.lengths() or {})

    @property
    def name(self) -> str:
        """A short name for reports."""
        return self.data.name


def _symbol_costs(documents: Sequence[Sequence[int]], vocab: int) -> Callable[[int], float]:
    """Return the cost of a symbol in documents, nats, with a count of 1/2 added to each symbol."""
    counts: Counter[int] = Counter()
    for row in documents:
        counts.update(row)
    total = math.log(counts.total() + vocab / 2)
    return lambda symbol: total - math.log(counts[symbol] + 0.5)


def _word_borders(vocabulary: Vocabulary) -> tuple[frozenset[int], Callable[[int, int], bool]]:
    """Return the symbols that end a sentence, and a test whether the second of two symbols continues the word of the first."""
    joins, open_ended = (table.tolist() for table in vocabulary.word_boundaries)
    stops = frozenset(symbol for symbol in range(vocabulary.size) if vocabulary.decode([symbol]) in _STOPS)
    return stops, lambda before, symbol: open_ended[before] and joins[symbol]


def _best_span(
    row: Sequence[int],
    human: Ngrams,
    document_cost: Callable[[int], float],
    stops: frozenset[int],
    continues: Callable[[int, int], bool],
    *,
    low: int,
    high: int,
    start: int,
) -> tuple[int, int]:
    """Return first symbol and length of the best span; the beginning of the document where none is long enough."""
    begins = [i == 0 or not continues(row[i - 1], row[i]) for i in range(len(row))] + [True]
    best, span = -math.inf, (0, min(high, len(row)))
    for first in (i for i in range(min(start + 1, len(row))) if begins[i]):
        gain, before = 0.0, (START, START)
        for last in range(first, min(first + high, len(row))):
            symbol = row[last]
            if symbol in stops:
                break
            gain += document_cost(symbol) - human.cost((*before, symbol))
            before = (before[1], symbol)
            if last - first + 1 >= low and begins[last + 1]:
                whole_gain = gain - human.cost((*before, END))
                if whole_gain > best:
                    best, span = whole_gain, (first, last - first + 1)
    return span
