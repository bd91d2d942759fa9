"""What is read of documents before it becomes symbols: who belongs to whom, and which text is whose summary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import derive_seed
from reprkit.errors import DataError

_DEAL = 0x6465616C  # keeps the dealing's randomness apart from others of the same seed
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One document.

    Attributes:
        document: its text, not empty.
        summary: what a human wrote in short for it; None where there is none.
        label: the name of its class; None where it has none.
        group: records of one group are never divided among parts; None: those of the same text, spaces and case aside.
    """

    document: str
    summary: str | None = None
    label: str | None = None
    group: str | None = None

    @property
    def kin(self) -> str:
        """What it has in common with the records of its group."""
        return self.group if self.group is not None else plain(self.document)


def written(text: str) -> str:
    """The text without white space at its ends; empty where it holds nothing that could be printed."""
    return text.strip() if any(each.isprintable() and not each.isspace() for each in text) else ""


def plain(text: str) -> str:
    """A text without what does not tell it from another: case and amounts of white space."""
    return _SPACE.sub(" ", text).strip().casefold()


@dataclass(frozen=True, kw_only=True)
class Deal:
    """Which records stay together, and whose summary each one is shown.

    Attributes:
        hand: number of the hand that each record is in (n,); a hand is never divided among parts.
        shown: the record whose summary each one is shown (n,), of the same hand; None where there are no summaries.
    """

    hand: Int[Tensor, " n"]
    shown: Int[Tensor, " n"] | None


def deal(records: Sequence[Record]) -> Deal:
    """Put two or three groups that have summaries into each hand, at random, and exchange their summaries there.

    So every summary that is shown beside a document is of another document, and both documents are in the same part of every
    division: what a part shows is its own.  A document without a summary joins a hand.

    Raises:
        DataError: some have summaries, but there are not two different documents that have.
    """
    groups: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        groups.setdefault(record.kin, []).append(number)
    told = {name: [n for n in members if records[n].summary] for name, members in groups.items()}
    names = _shuffled(sorted(groups))
    telling = [name for name in names if told[name]]
    if not telling:
        return Deal(hand=_numbers([groups[name] for name in names], len(records)), shown=None)
    if len(telling) < 2:
        raise DataError(
            f"there are {len(records)} documents, and only one of them that is different from the others has a summary: "
            "nobody else's can be shown beside it\n  give more, or leave the summaries away: summary=None"
        )
    hands = [telling[at : at + 2] for at in range(0, len(telling) - len(telling) % 2, 2)]
    hands[-1] += telling[2 * len(hands) :]
    silent = [name for name in names if not told[name]]
    for at, name in enumerate(silent):
        hands[at % len(hands)].append(name)
    shown = torch.arange(len(records))
    for hand in hands:
        speakers = [name for name in hand if told[name]]
        for at, name in enumerate(hand):
            own = not told[name]
            source = told[speakers[at % len(speakers)] if own else speakers[(at + 1) % len(speakers)]]
            for place, number in enumerate(groups[name]):
                shown[number] = source[place % len(source)]
    members = [[number for name in hand for number in groups[name]] for hand in hands]
    return Deal(hand=_numbers(members, len(records)), shown=shown)


def _shuffled(names: list[str]) -> list[str]:
    generator = torch.Generator().manual_seed(derive_seed(0, _DEAL))
    return [names[at] for at in torch.randperm(len(names), generator=generator).tolist()]


def _numbers(hands: list[list[int]], count: int) -> Tensor:
    found = torch.empty(count, dtype=torch.int64)
    for number, members in enumerate(hands):
        found[members] = number
    return found
