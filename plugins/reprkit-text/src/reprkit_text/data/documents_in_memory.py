"""Documents in memory as a data set: each beside the human summary of another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data import Subset
from reprkit.data.collation import to_index
from reprkit.errors import DataError
from reprkit_text.data.division import divided, origin
from reprkit_text.data.records import Deal, Record, deal
from reprkit_text.data.symbols import Symbols, known
from reprkit_text.vocabulary import Vocabulary, vocabulary


class Told(Dataset):
    """A data set of documents, or a part of one.

    Attributes:
        texts: the data set that this is, or is a part of.
        part: "whole", "train", "valid", "test" or another name.
    """

    texts: Texts
    part: str = "whole"

    @property
    def rows(self) -> Int[Tensor, " n"]:
        """The numbers of its documents in the whole set (n,)."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> Vocabulary:
        """What made the symbols; also whole in the signature, as the ``form`` of field ``x``."""
        return self.texts.own_vocabulary

    @property
    def classes(self) -> list[str]:
        """Names, in the order of the labels of field ``label``; none where there is no such field."""
        return list(self.texts.facts.get("classes", ()))

    @property
    def documents(self) -> list[str]:
        """The documents' texts, whole, in their order."""
        return [self.texts.records[row].document for row in self.rows.tolist()]

    @property
    def shown(self) -> list[str]:
        """The human summaries that are shown beside the documents, each once: what a language model may learn from.

        Raises:
            DataError: there are no summaries.
        """
        whole = self._summarised()
        numbers = dict.fromkeys(whole[self.rows].tolist())
        return [str(self.texts.records[number].summary) for number in numbers]

    def pairs(self) -> list[tuple[str, str]]:
        """(document, its own summary) of every document that has one: for evaluation, never for training.

        Raises:
            DataError: of a training part or the whole set, or there are no summaries.
        """
        return self.referenced()[1]

    def referenced(self) -> tuple[list[int], list[tuple[str, str]]]:
        """Which of its documents have a summary, by their place in this part, and ``pairs()``.

        Raises:
            DataError: as ``pairs``.
        """
        self._summarised()
        if self.part in ("whole", "train"):
            raise DataError(
                f"{self.name}: pairs are for evaluation; take those of the valid or test part: "
                "train, test = data.split()\n  a supervised model is trained on paired=True"
            )
        held = [self.texts.records[row] for row in self.rows.tolist()]
        places = [place for place, each in enumerate(held) if each.summary]
        return places, [(held[place].document, str(held[place].summary)) for place in places]

    def subset(self, indices: Int[Tensor, " m"] | Iterable[int], part: str = "subset") -> Part:
        """The examples of these indices (m,) as a part."""
        return Part(self, indices, part=part)

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Part, ...]:
        """Train and test, or train, valid and test, at random: what is alike and what is shown together stays in one part.

        The test part does not depend on ``valid``.

        Raises:
            DataError: shares out of range, or so few documents that a part would be empty.
        """
        found = divided(self.texts.deal.hand[self.rows], seed, valid, test_share, valid_share)
        made = tuple(self.subset(places, part=name) for name, places in found.items())
        for each in made:
            each.origin.update(origin(seed, valid, test_share, valid_share))
        return made

    def _summarised(self) -> Tensor:
        shown = self.texts.deal.shown
        if shown is None:
            raise DataError(f"{self.name} holds no summaries{self.texts.unsummarised}")
        return shown


class Texts(Told):
    """Documents of varying length, and beside each the summary of another one.

    Fields: ``x`` tokens (t,); ``summary`` tokens (t,) of another document, where there are summaries; ``label``, where there are
    classes.  ``form`` of both token fields is the whole vocabulary.

    Args:
        records: the documents.
        tokenizer: see ``reprkit_text.vocabulary``; trained on documents and summaries.
        name: for reports.
        length: symbols of a document at most; the rest is cut off and counted.  None: all.
        summary_length: the same of a summary.
        paired: show each document its own summary, and only those that have one: for supervised training.
        classes: names of the labels; None takes those that there are, sorted.
        facts: for ``describe``.
        unsummarised: what a message that there are no summaries ends with.

    Raises:
        DataError: no documents, a length out of range, or a vocabulary that cannot write them.
    """

    def __init__(
        self,
        records: Sequence[Record],
        tokenizer: str | Vocabulary,
        *,
        name: str,
        length: int | None,
        summary_length: int | None = None,
        paired: bool = False,
        classes: Sequence[str] | None = None,
        facts: Mapping[str, Any] | None = None,
        unsummarised: str = "",
    ) -> None:
        if not records:
            raise DataError(f"{name} holds no documents")
        self._name, self.texts, self.unsummarised = name, self, unsummarised
        self.deal = deal(records)
        summaries = [each.summary or "" for each in records] if self.deal.shown is not None else []
        self.own_vocabulary = vocabulary(
            tokenizer, [*(each.document for each in records), *filter(None, summaries)]
        )
        if paired:  # after both, so that parts and symbols are those of the unpaired set
            self._summarised()
            own = [number for number, each in enumerate(records) if each.summary]
            records, summaries = [records[number] for number in own], [summaries[number] for number in own]
            self.deal = Deal(hand=self.deal.hand[own], shown=torch.arange(len(own)))
        self.records = records
        self._x = Symbols((each.document for each in records), self.own_vocabulary, length)
        self._summary = Symbols(summaries, self.own_vocabulary, summary_length) if summaries else None
        self.facts = {
            **(facts or {}),
            "tokenizer": self.own_vocabulary.made,
            **known(self._x, self.own_vocabulary, name, records[0].document),
        }
        field = Field(
            kind="tokens", shape=(None,), vocab=self.own_vocabulary.size, form=self.own_vocabulary.form
        )
        fields = {"x": field} | ({"summary": field} if summaries else {})
        names = sorted({each.label for each in records if each.label is not None})
        if names and all(each.label is not None for each in records):
            order = list(classes) if classes is not None else names
            place = {each: number for number, each in enumerate(order)}
            self._labels: Tensor | None = torch.tensor([place[str(each.label)] for each in records])
            fields["label"] = Field(kind="label", shape=(), vocab=len(order))
            self.facts["classes"] = order
        else:
            self._labels = None
        self.signature = Signature(fields)

    def __len__(self) -> int:
        """How many documents."""
        return len(self.records)

    @property
    def rows(self) -> Int[Tensor, " n"]:
        """All of them."""
        return torch.arange(len(self))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One document; a negative index counts from the end."""
        place = range(len(self))[index]
        made = {"x": self._x[place]}
        if self._summary is not None and self.deal.shown is not None:
            made["summary"] = self._summary[int(self.deal.shown[place])]
        return made if self._labels is None else made | {"label": self._labels[place]}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """The examples of these indices (b,), padded under their masks: one look-up a field."""
        index = to_index(indices)
        made = dict(zip(("x", "x_mask"), self._x.padded(index), strict=True))
        if self._summary is not None and self.deal.shown is not None:
            shown = self._summary.padded(self.deal.shown[index])
            made |= dict(zip(("summary", "summary_mask"), shown, strict=True))
        return made if self._labels is None else made | {"label": self._labels[index]}

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Symbols of every document, and of the summary beside it."""
        made = {"x": self._x.lengths}
        if self._summary is not None and self.deal.shown is not None:
            made["summary"] = self._summary.lengths[self.deal.shown]
        return made

    @property
    def name(self) -> str:
        """A short name for reports."""
        return self._name


class Part(Told, Subset):
    """Some documents of a set; the summaries beside them are those of the whole set's."""

    def __init__(self, data: Told, indices: Tensor | Iterable[int], *, part: str = "subset") -> None:
        super().__init__(data, indices, part=part)
        if isinstance(data, Part):  # one look-up however deep the nesting
            self.data, self.indices = data.data, data.indices[self.indices]
            self.origin["within"] = {"part": data.part, **data.origin}
            if part == "subset":
                self.part = data.part  # a few of the training part are of the training part
        self.texts = data.texts

    @property
    def rows(self) -> Int[Tensor, " n"]:
        """Those of the whole set that it holds."""
        return self.indices
