"""Where in a document stands what could be a human summary: known from human summaries of other documents alone."""

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
from reprkit_text.data.documents_in_memory import Told
from reprkit_text.decoded_text import symbols
from reprkit_text.language import END, START, Ngrams
from reprkit_text.vocabulary import Vocabulary

_STOPS = frozenset(".;!?")


class Slotted(Dataset):
    """Documents with one more field, ``slot`` (2,): the first symbol, and how many, of the stretch most like a human summary.

    It is the stretch whose symbols, and the end behind them, are likelier in human summaries than in documents by most: the sum
    of log p(symbol | two before it, in summaries) - log p(symbol in documents).  Both are counted on these documents and the
    summaries shown beside them, which are of other documents: a pair is never seen.  A stretch begins and ends where words do,
    and holds no end of a sentence.  Objective ``summary(slot='slot')`` reads it.

    Args:
        data: a training part of documents or debian.
        low: fewest symbols of a stretch.
        high: most of them.
        start: the last symbol with which a stretch may begin, counted from 0.
        field: human summaries.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: no such field.
    """

    def __init__(
        self, data: Told, *, low: Count = 6, high: Count = 13, start: CountOrZero = 13, field: str = "summary"
    ) -> None:
        require(low <= high, f"slots: high={high} must be at least low={low}")
        self.data, self.facts, self.reference = data, data.facts, data.reference
        human, documents = symbols(data, field), symbols(data, "x")
        vocab = data.signature["x"].vocab
        require(vocab is not None, "slots are of symbols")
        assert vocab is not None
        model, rare = Ngrams(human, vocab), _rarity(documents, vocab)
        stops, inside = _borders(data.vocabulary)
        found = [
            _likeliest(row, model, rare, stops, inside, low=low, high=high, start=start) for row in documents
        ]
        self.slots = torch.tensor(found)
        longest = int(self.slots.max()) + 1
        slot = Field(kind="tokens", shape=(2,), vocab=longest)
        self.signature = Signature({**dict(data.signature.items()), "slot": slot})

    def __len__(self) -> int:
        """How many documents."""
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One document with its slot."""
        return self.data[index] | {"slot": self.slots[index]}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """The examples of these indices (b,), padded, with their slots (b 2)."""
        index = to_index(indices)
        return self.data.batch(index) | {"slot": self.slots[index]}

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Symbols of every document, and of the summary beside it."""
        return dict(self.data.lengths() or {})

    @property
    def name(self) -> str:
        """A short name for reports."""
        return self.data.name


def _rarity(documents: Sequence[Sequence[int]], vocab: int) -> Callable[[int], float]:
    """Nats of a symbol in documents, each counted half a time more than it was seen."""
    counts: Counter[int] = Counter()
    for row in documents:
        counts.update(row)
    total = math.log(counts.total() + vocab / 2)
    return lambda symbol: total - math.log(counts[symbol] + 0.5)


def _borders(words: Vocabulary) -> tuple[frozenset[int], Callable[[int, int], bool]]:
    """The symbols that end a sentence, and whether the second of two symbols goes on with the word of the first."""
    joins, open_ended = (each.tolist() for each in words.words)
    stops = frozenset(each for each in range(words.size) if words.decode([each]) in _STOPS)
    return stops, lambda before, symbol: open_ended[before] and joins[symbol]


def _likeliest(
    row: Sequence[int],
    human: Ngrams,
    rare: Callable[[int], float],
    stops: frozenset[int],
    inside: Callable[[int, int], bool],
    *,
    low: int,
    high: int,
    start: int,
) -> tuple[int, int]:
    """First symbol and number of symbols of the best stretch; the beginning of the document where none is long enough."""
    begins = [at == 0 or not inside(row[at - 1], row[at]) for at in range(len(row))] + [True]
    best, found = -math.inf, (0, min(high, len(row)))
    for first in (at for at in range(min(start + 1, len(row))) if begins[at]):
        gain, before = 0.0, (START, START)
        for last in range(first, min(first + high, len(row))):
            symbol = row[last]
            if symbol in stops:
                break
            gain += rare(symbol) - human.cost((*before, symbol))
            before = (before[1], symbol)
            if last - first + 1 >= low and begins[last + 1]:
                whole_gain = gain - human.cost((*before, END))
                if whole_gain > best:
                    best, found = whole_gain, (first, last - first + 1)
    return found
