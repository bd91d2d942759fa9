"""Symbols of many texts in one flat tensor: four bytes each, and a batch in one look-up."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit.data.padding import length_mask
from reprkit.errors import DataError
from reprkit_text.vocabulary import Vocabulary

_UNKNOWN = 0.5  # a larger share of unknown symbols means a vocabulary of another script


class Symbols:
    """The symbols of each of many texts.

    Attributes:
        cut: how many texts were longer than ``length``.
        unknown: share of all symbols that are unknown to the vocabulary, in [0, 1].

    Args:
        texts: the texts, in order.
        vocabulary: encodes them.
        length: largest number of symbols of a text; None: no limit.
    """

    def __init__(self, texts: Iterable[str], vocabulary: Vocabulary, length: int | None) -> None:
        flat, ends = array("i"), array("q", [0])
        self.cut = unknown_count = 0
        for ids, cut, unknown in vocabulary.encode_with_counts(texts, length):
            flat.extend(ids)
            ends.append(len(flat))
            self.cut += cut
            unknown_count += unknown
        self.flat = torch.frombuffer(flat, dtype=torch.int32) if flat else torch.empty(0, dtype=torch.int32)
        self.ends = torch.frombuffer(ends, dtype=torch.int64)
        self.unknown = unknown_count / max(1, len(self.flat))

    def windows(self, row: Int[Tensor, " t"], length: int) -> Symbols:
        """Cut a row of symbols into windows of ``length``; what remains at its end is left out."""
        count = len(row) // length
        return self.rows(row[: count * length], torch.full((count,), length))

    def rows(self, flat: Int[Tensor, " t"], lengths: Int[Tensor, " n"]) -> Symbols:
        """Cut ``flat`` into rows of these lengths, whose sum is its length; ``cut`` and ``unknown`` stay those of the texts."""
        rows = copy.copy(self)
        rows.flat, rows.ends = flat, F.pad(lengths.cumsum(0), (1, 0))
        return rows

    def __len__(self) -> int:
        """Return how many texts there are."""
        return len(self.ends) - 1

    @property
    def lengths(self) -> Int[Tensor, " n"]:
        """How many symbols each text has (n,)."""
        return self.ends[1:] - self.ends[:-1]

    def __getitem__(self, index: int) -> Int[Tensor, " t"]:
        """Return the symbols of one text (t,), int64."""
        return self.flat[self.ends[index] : self.ends[index + 1]].long()

    def pad_batch(self, index: Int[Tensor, " b"]) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """Return the symbols of several texts (b t), shorter ones padded with zeros, and the mask of valid ones."""
        first, count = self.ends[index].unsqueeze(1), self.lengths[index]
        mask = length_mask(count, int(count.max()))
        positions = (first + torch.arange(mask.shape[1])).clamp(max=len(self.flat) - 1)
        return self.flat[positions].long().masked_fill(~mask, 0), mask


def check_symbols(symbols: Symbols, vocabulary: Vocabulary, name: str, first: str) -> dict[str, Any]:
    """Check a data set's symbols; return for ``describe`` how many texts were cut and what share is unknown.

    Raises:
        DataError: more than half of them are unknown, or a text has none.
    """
    facts: dict[str, Any] = {"cut_count": symbols.cut} if symbols.cut else {}
    if symbols.unknown:
        facts["unknown_share"] = round(symbols.unknown, 6)
    if symbols.unknown > _UNKNOWN:
        raise DataError(
            f"{symbols.unknown:.0%} of the symbols of {name} are unknown to {vocabulary.source}: its first text begins "
            f"{first[:40]!r}\n  train a vocabulary on these texts, or use byte-pair, which can encode any script"
        )
    if int(symbols.lengths.min()) == 0:
        raise DataError(
            f"{vocabulary.source} makes no symbols at all of text {int(symbols.lengths.argmin())} of {name}"
        )
    return facts
