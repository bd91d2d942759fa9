"""An n-gram model of texts that people wrote, over symbols: what it costs to write another one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from reprkit.errors import DataError

START, END = -1, -2  # before a text and behind it; symbols are from 0


class Ngrams:
    """An interpolated n-gram model (Witten and Bell 1991) of texts in symbols: nltk's ``WittenBellInterpolated``.

    Every symbol of the vocabulary is counted once more than it was seen, so that nothing has probability zero.

    Args:
        texts: symbols of each text; at least one.
        vocab: symbols are 0 to vocab - 1.
        order: of the model; 3 looks at two symbols before.

    Raises:
        DataError: no texts.
    """

    def __init__(self, texts: Iterable[Sequence[int]], vocab: int, order: int = 3) -> None:
        from nltk.lm import WittenBellInterpolated
        from nltk.util import everygrams

        padded = [[*[START] * (order - 1), *text, END] for text in texts]
        if not padded:
            raise DataError("a language model is fitted on texts, and there are none")
        self.order = order
        named = {symbol: str(symbol) for symbol in (START, END, *range(vocab))}  # nltk looks up strings only
        self._named = named
        grams = (everygrams([named[symbol] for symbol in text], max_len=order) for text in padded)
        self._model = WittenBellInterpolated(order)
        # What stands before a text is a context, and is never written itself.
        self._model.fit(
            ([gram for gram in each if gram[-1] != named[START]] for each in grams),
            vocabulary_text=list(named.values()),
        )
        self._model.fit([[(name,) for symbol, name in named.items() if symbol != START]])
        self._known: dict[tuple[int, ...], float] = {}

    def nats(self, text: Sequence[int]) -> list[float]:
        """What each symbol costs given those before it, and the end of the text: one more than there are symbols."""
        row = [*[START] * (self.order - 1), *text, END]
        return [self.cost(row[at - self.order + 1 : at + 1]) for at in range(self.order - 1, len(row))]

    def cost(self, gram: Sequence[int]) -> float:
        """Nats of the last of ``order`` symbols given the others."""
        key = tuple(gram)
        if key not in self._known:
            names = [self._named[symbol] for symbol in key]
            self._known[key] = -math.log(self._model.unmasked_score(names[-1], names[:-1]))
        return self._known[key]

    def perplexity(self, texts: Iterable[Sequence[int]]) -> float:
        """The exponential of the mean nats a symbol, the ends included.

        Raises:
            DataError: no texts.
        """
        costs = [cost for text in texts for cost in self.nats(text)]
        if not costs:
            raise DataError("there are no texts to read")
        return math.exp(sum(costs) / len(costs))
