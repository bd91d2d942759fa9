"""Symbols of many texts in one row: four bytes each, and a batch in one look-up."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit.data.padding import length_mask
from reprkit.errors import DataError
from reprkit_text.vocabulary import Vocabulary

_UNKNOWN = 0.5  # a larger share of unknown symbols is a vocabulary of another script


class Symbols:
    """The symbols of each of many texts.

    Attributes:
        cut: how many texts were longer than ``length``.
        unknown: share of all symbols that stand for what the vocabulary has no symbol for, in [0, 1].

    Args:
        texts: in their order.
        vocabulary: what makes the symbols.
        length: at most this many of a text; None: all.
    """

    def __init__(self, texts: Iterable[str], vocabulary: Vocabulary, length: int | None) -> None:
        flat, ends = array("i"), array("q", [0])
        self.cut = missed = 0
        for ids, cut, unknown in vocabulary.counted(texts, length):
            flat.extend(ids)
            ends.append(len(flat))
            self.cut += cut
            missed += unknown
        self.flat = torch.frombuffer(flat, dtype=torch.int32) if flat else torch.empty(0, dtype=torch.int32)
        self.ends = torch.frombuffer(ends, dtype=torch.int64)
        self.unknown = missed / max(1, len(self.flat))

    def cut_into(self, row: Int[Tensor, " t"], length: int) -> Symbols:
        """The windows of ``length`` of a row of symbols; the rest at its end is left out."""
        made = copy.copy(self)
        made.flat = row[: len(row) // length * length]
        made.ends = torch.arange(0, len(made.flat) + 1, length)
        return made

    def __len__(self) -> int:
        """How many texts."""
        return len(self.ends) - 1

    @property
    def lengths(self) -> Int[Tensor, " n"]:
        """Symbols of each text (n,)."""
        return self.ends[1:] - self.ends[:-1]

    def __getitem__(self, index: int) -> Int[Tensor, " t"]:
        """The symbols of one text (t,), int64."""
        return self.flat[self.ends[index] : self.ends[index + 1]].long()

    def padded(self, index: Int[Tensor, " b"]) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """The symbols of several texts (b t), zeros behind the shorter ones, and which are real."""
        first, count = self.ends[index].unsqueeze(1), self.lengths[index]
        mask = length_mask(count, int(count.max()))
        places = (first + torch.arange(mask.shape[1])).clamp(max=len(self.flat) - 1)
        return self.flat[places].long().masked_fill(~mask, 0), mask


def known(symbols: Symbols, vocabulary: Vocabulary, name: str, first: str) -> dict[str, Any]:
    """What is noteworthy of a data set's symbols, for ``describe``: how many texts were cut, what share is unknown.

    Raises:
        DataError: more than half of them are unknown, or a text has none.
    """
    found: dict[str, Any] = {"cut_count": symbols.cut} if symbols.cut else {}
    if symbols.unknown:
        found["unknown_share"] = round(symbols.unknown, 6)
    if symbols.unknown > _UNKNOWN:
        raise DataError(
            f"{symbols.unknown:.0%} of the symbols of {name} are unknown to {vocabulary.made}: its first text begins "
            f"{first[:40]!r}\n  train a vocabulary on these texts, or take byte-pair, which can write any script"
        )
    if int(symbols.lengths.min()) == 0:
        raise DataError(
            f"{vocabulary.made} makes no symbols at all of text {int(symbols.lengths.argmin())} of {name}"
        )
    return found
