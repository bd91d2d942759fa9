"""Brackets: sets of spans, and their F1.

**The rule.**  Unlabeled brackets of two or more words, without the one around the whole sentence, each counted once however many
nodes have it (a chain of single children is one bracket).  Punctuation is left to the data.  This is the rule of Kim, Dyer and
Rush 2019 (arXiv 1906.10225, section 3.1); evalb also counts the bracket of the whole sentence, and repeated ones.

- ``f1``: F1 of the brackets of all sentences together;
- ``sentence_f1``: mean of each sentence's F1; a sentence without gold brackets has recall 1, and precision 1 if none is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit.errors import DataError

_LITTLE = 1e-8  # as in the authors' code


def nontrivial(chart: Bool[Tensor, "b n n"], lengths: Int[Tensor, " b"]) -> Bool[Tensor, "b n n"]:
    """Return the brackets of a chart that count, see above."""
    inner = torch.triu(chart, 1).clone()
    inner[torch.arange(len(chart), device=chart.device), 0, lengths - 1] = False
    return inner


class BracketScore:
    """Brackets counted over batches: ``add`` charts, then read ``metrics``."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []

    def add(
        self, predicted: Bool[Tensor, "b n n"], gold: Bool[Tensor, "b n n"], lengths: Int[Tensor, " b"]
    ) -> None:
        """Add the sentences of a batch: charts of predicted and gold nodes."""
        predicted, gold = nontrivial(predicted, lengths), nontrivial(gold, lengths)
        both = [(predicted & gold), predicted, gold]
        self._rows.append(torch.stack([each.sum((1, 2)) for each in both], 1).cpu())

    @property
    def counts(self) -> Int[Tensor, "b 3"]:
        """Brackets in common, predicted and gold, of each sentence."""
        return torch.cat(self._rows) if self._rows else torch.zeros(0, 3, dtype=torch.int64)

    def metrics(self) -> dict[str, float]:
        """Return ``f1`` (corpus), ``precision``, ``recall`` and ``sentence_f1``, in [0, 1]."""
        counts = self.counts.double()
        common, predicted, gold = counts.sum(0).tolist()
        precision, recall = common / max(predicted, 1), common / max(gold, 1)
        f1 = 2 * common / max(predicted + gold, 1)
        return {
            "f1": f1,
            "precision": precision,
            "recall": recall,
            "sentence_f1": float(_sentence_f1(counts).mean()) if len(counts) else 0.0,
        }


def _sentence_f1(counts: Float[Tensor, "b 3"]) -> Float[Tensor, " b"]:
    common, predicted, gold = counts.unbind(1)
    precision, recall = common / (predicted + _LITTLE), common / (gold + _LITTLE)
    recall = torch.where(gold == 0, torch.ones_like(recall), recall)
    precision = torch.where((gold == 0) & (predicted == 0), torch.ones_like(precision), precision)
    return 2 * precision * recall / (precision + recall + _LITTLE)


def best_binary_chart(gold: Bool[Tensor, "b n n"], lengths: Int[Tensor, " b"]) -> Bool[Tensor, "b n n"]:
    """Return the binary tree with the most gold brackets: the bound of any binary parser."""
    from reprkit_structure.layers.tree_crf import TreeCRF

    mask = torch.arange(gold.shape[1], device=gold.device) < lengths[:, None]
    return TreeCRF(gold.float(), mask).best()


def brackets_of(chart: Bool[Tensor, "n n"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return how many nodes of two or more words begin and end with each word: with the words, all that a data set stores."""
    inner = torch.triu(chart, 1)
    return inner.sum(1), inner.sum(0)


def chart_of_brackets(
    opens: Int[Tensor, "b n"], closes: Int[Tensor, "b n"], lengths: Int[Tensor, " b"]
) -> Bool[Tensor, "b n n"]:
    """Return the nodes of nested brackets, and the words: the inverse of ``brackets_of``.

    Raises:
        DataError: a bracket that is closed and not open, or never closed.
    """
    size, count = opens.shape
    chart = torch.zeros(size, count, count, dtype=torch.bool)
    for row, (begins, ends, length) in enumerate(
        zip(opens.tolist(), closes.tolist(), lengths.tolist(), strict=True)
    ):
        waiting: list[int] = []
        for word in range(length):
            chart[row, word, word] = True
            waiting += [word] * begins[word]
            if ends[word] > len(waiting):
                raise DataError(f"example {row}: word {word} closes a bracket that is not open")
            for _ in range(ends[word]):
                chart[row, waiting.pop(), word] = True
        if waiting:
            raise DataError(f"example {row}: a bracket that opens at word {waiting[-1]} is never closed")
    return chart.to(opens.device)


def bracketed(words: Sequence[str], chart: Bool[Tensor, "n n"]) -> str:
    """Return a sentence with its brackets of two or more words, "[[a + b] * c]", of the nodes of one tree."""
    opens, closes = brackets_of(chart[: len(words), : len(words)])
    parts = [
        "[" * begin + word + "]" * end
        for word, begin, end in zip(words, opens.tolist(), closes.tolist(), strict=True)
    ]
    return " ".join(parts)
