"""Base of the data sets of sentences with trees: symbols, and the brackets over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.errors import DataError

Span = tuple[int, int]  # first and last word
MOST = 128  # brackets that can open or close at one word, so that all data sets have one signature; sentences are shorter


class Treebank(Dataset):
    """Sentences with their brackets.

    Fields: ``x`` tokens (t,), the words; ``opens`` and ``closes`` tokens (t,), how many brackets of two or more words open before
    and close after each word.  The last two are for evaluation: no part reads them unless it is told to.

    ``facts["words"]`` are the symbols in order; equal sentences stay in one part of a split.
    """

    def _fill(self, sentences: Sequence[tuple[Sequence[str], Iterable[Span]]], words: Sequence[str]) -> None:
        """Take over the sentences, each with its spans; ``words`` is the vocabulary.

        Raises:
            DataError: no sentences.
        """
        if not sentences:
            raise DataError(f"{self.name}: no sentence fits these arguments")
        number = {word: place for place, word in enumerate(words)}
        self._texts = [" ".join(text) for text, _ in sentences]
        self._rows = [_row(text, spans, number) for text, spans in sentences]
        self.signature = Signature(
            {
                "x": Field(kind="tokens", shape=(None,), vocab=len(words)),
                "opens": Field(kind="tokens", shape=(None,), vocab=MOST),
                "closes": Field(kind="tokens", shape=(None,), vocab=MOST),
            }
        )
        self.facts: dict[str, Any] = {"words": list(words)}

    def __len__(self) -> int:
        """Number of sentences."""
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one sentence; a negative index counts from the end."""
        return dict(self._rows[index])

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Return the number of words of each sentence, for every field."""
        lengths = torch.tensor([len(row["x"]) for row in self._rows])
        return dict.fromkeys(self.signature, lengths)

    def identities(self) -> list[str]:
        """Return the text of each sentence."""
        return list(self._texts)

    def text(self, index: int) -> str:
        """Return a sentence, words separated by spaces."""
        return self._texts[index]


def _row(text: Sequence[str], spans: Iterable[Span], number: dict[str, int]) -> dict[str, Tensor]:
    opens, closes = [0] * len(text), [0] * len(text)
    for begin, end in spans:
        if begin < end:
            opens[begin] += 1
            closes[end] += 1
    rows = {"x": [number[word] for word in text], "opens": opens, "closes": closes}
    return {name: torch.tensor(values) for name, values in rows.items()}
