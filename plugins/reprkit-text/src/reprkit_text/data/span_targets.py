"""Find the span of a document that reads most like a human summary, from summaries of other documents alone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data.collation import to_index
from reprkit.interfaces import require
from reprkit.registry.constraints import Count, CountOrZero, NonNegative
from reprkit_text.data.documents_in_memory import DocumentDataset
from reprkit_text.decoded_text import field_symbols, to_text
from reprkit_text.evaluators.rouge import Rouge
from reprkit_text.span_finder import SpanFinder, SpanLimits


class SpanTargets(Dataset):
    """Documents with a field ``slot`` (2,) more: first symbol and length of the span most like a human summary.

    ``reprkit_text.span_finder.SpanFinder`` finds it.  It counts symbols of these documents and of the summaries shown with them,
    which are of other documents: a pair is never seen.  Objective ``summary(slot='slot')`` reads it.

    Args:
        data: a training part of documents or debian.
        low: smallest number of symbols of a span.
        high: largest number of them.
        start: last position at which a span may begin, counted from 0.
        bonus: nats added for each symbol of a span; more gives longer spans.
        rounds: how often spans are chosen again, by the symbols beside them and their position, too; see ``SpanFinder``.
        field: the field of human summaries.
        finder: a finder to use instead of one that counts these documents: that of a training part, for a valid or test part.

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
        bonus: NonNegative = 0.0,
        rounds: CountOrZero = 0,
        field: str = "summary",
        finder: SpanFinder | None = None,
    ) -> None:
        require(low <= high, f"span targets: high={high} must be at least low={low}")
        self.data, self.facts, self.reference = data, data.facts, data.reference
        human, documents = field_symbols(data, field), field_symbols(data, "x")
        require(data.signature["x"].vocab is not None, "span targets need a field of symbols")
        limits = SpanLimits(low, high, start, bonus)
        self.finder = finder or SpanFinder(human, documents, data.vocabulary, limits, rounds)
        spans = [self.finder.find(row) for row in documents]
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

    def texts(self) -> list[str]:
        """Return the span of every document as text."""
        rows = field_symbols(self.data, "x")
        spans = [
            row[first : first + count] for row, (first, count) in zip(rows, self.spans.tolist(), strict=True)
        ]
        return to_text(spans, self.data.vocabulary)

    def rouge(self, test: DocumentDataset, limit: int | None = None) -> dict[str, float]:
        """Return ROUGE of the spans of a valid or test part, found as in these documents: summaries without a network.

        Args:
            test: the part to evaluate on.
            limit: evaluate only this many documents, the first ones; None: all.

        Raises:
            DataError: a part whose pairs must not be seen, or no summaries.
        """
        if limit is not None and limit < len(test):
            test = test.subset(range(limit))
        rows, pairs = test.reference_pairs()
        texts = SpanTargets(test.subset(rows), finder=self.finder).texts()
        return Rouge().mean_scores([summary for _, summary in pairs], texts)

    @property
    def name(self) -> str:
        """A short name for reports."""
        return self.data.name
