"""An n-gram language model over symbols, trained on human texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from reprkit.errors import DataError

START, END = -1, -2  # before and after a text; symbols start at 0


class Ngrams:
    """An interpolated n-gram model (Witten and Bell 1991) of texts in symbols: nltk's ``WittenBellInterpolated``.

    One is added to the count of every symbol of the vocabulary, so that nothing has probability zero.

    Args:
        texts: the symbols of each text; at least one text.
        vocab: number of symbols, which are 0 to vocab - 1.
        order: n; 3 conditions on the two symbols before.

    Raises:
        DataError: no texts.
    """

    def __init__(self, texts: Iterable[Sequence[int]], vocab: int, order: int = 3) -> None:
        from nltk.lm import WittenBellInterpolated
        from nltk.util import everygrams

        padded = [[*[START] * (order - 1), *text, END] for text in texts]
        if not padded:
            raise DataError("a language model needs texts to fit, and there are none")
        self.order = order
        names = {symbol: str(symbol) for symbol in (START, END, *range(vocab))}  # nltk looks up strings only
        self._names = names
        grams = (everygrams([names[symbol] for symbol in text], max_len=order) for text in padded)
        self._model = WittenBellInterpolated(order)
        # The start symbol is only ever a context, never predicted.
        self._model.fit(
            ([gram for gram in row if gram[-1] != names[START]] for row in grams),
            vocabulary_text=list(names.values()),
        )
        self._model.fit([[(name,) for symbol, name in names.items() if symbol != START]])
        self._costs: dict[tuple[int, ...], float] = {}

    def nats(self, text: Sequence[int]) -> list[float]:
        """Return the cost of each symbol given those before it, and of the end of the text: one value more than symbols."""
        row = [*[START] * (self.order - 1), *text, END]
        return [self.cost(row[i - self.order + 1 : i + 1]) for i in range(self.order - 1, len(row))]

    def cost(self, gram: Sequence[int]) -> float:
        """Return the nats of the last of ``order`` symbols given the others."""
        key = tuple(gram)
        if key not in self._costs:
            names = [self._names[symbol] for symbol in key]
            self._costs[key] = -math.log(self._model.unmasked_score(names[-1], names[:-1]))
        return self._costs[key]

    def perplexity(self, texts: Iterable[Sequence[int]]) -> float:
        """Return the exponential of the mean nats per symbol, ends of texts included.

        Raises:
            DataError: no texts.
        """
        costs = [cost for text in texts for cost in self.nats(text)]
        if not costs:
            raise DataError("perplexity needs texts, and there are none")
        return math.exp(sum(costs) / len(costs))
