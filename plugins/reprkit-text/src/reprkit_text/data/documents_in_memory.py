"""Documents in memory as a data set: each with the human summary of another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data import Subset
from reprkit.data.base import split_settings
from reprkit.data.collation import to_index
from reprkit.errors import DataError
from reprkit_text.data.records import Record, SummaryAssignment, assign_summaries
from reprkit_text.data.splits import split_groups
from reprkit_text.data.symbols import Symbols, check_symbols
from reprkit_text.vocabulary import Vocabulary, vocabulary


class DocumentDataset(Dataset):
    """A data set of documents, or a part of one.

    Attributes:
        whole: the whole data set, of which this is all or a part.
        part: "whole", "train", "valid", "test" or another name.
    """

    whole: InMemoryDocuments
    part: str = "whole"

    @property
    def rows(self) -> Int[Tensor, " n"]:
        """Indices of its documents in the whole set (n,)."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the symbols; also packed in the signature, as the ``form`` of field ``x``."""
        return self.whole._vocabulary

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the values of field ``label``; empty without that field."""
        return list(self.whole.facts.get("classes", ()))

    @property
    def documents(self) -> list[str]:
        """The uncut texts of the documents, in order."""
        return [self.whole.records[row].document for row in self.rows.tolist()]

    @property
    def shown_summaries(self) -> list[str]:
        """The human summaries shown with the documents, each once: what a language model may be trained on.

        Raises:
            DataError: there are no summaries.
        """
        summary_of = self._summary_numbers()
        numbers = dict.fromkeys(summary_of[self.rows].tolist())
        return [str(self.whole.records[number].summary) for number in numbers]

    def pairs(self) -> list[tuple[str, str]]:
        """Return (document, its own summary) for every document that has one: for evaluation, never for training.

        Raises:
            DataError: for a training part or the whole set, or there are no summaries.
        """
        return self.reference_pairs()[1]

    def reference_pairs(self) -> tuple[list[int], list[tuple[str, str]]]:
        """Return the indices in this part of the documents that have a summary, and ``pairs()``.

        Raises:
            DataError: as ``pairs``.
        """
        self._summary_numbers()
        if self.part in ("whole", "train"):
            raise DataError(
                f"{self.name}: pairs are for evaluation; take those of the valid or test part: "
                "train, test = data.split()\n  train a supervised model with paired=True"
            )
        records = [self.whole.records[row] for row in self.rows.tolist()]
        indices = [index for index, record in enumerate(records) if record.summary]
        return indices, [(records[index].document, str(records[index].summary)) for index in indices]

    def subset(self, indices: Int[Tensor, " m"] | Iterable[int], part: str = "subset") -> DocumentSubset:
        """Return the examples at indices (m,) as a part."""
        return DocumentSubset(self, indices, part=part)

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[DocumentSubset, ...]:
        """Split at random into train and test, or train, valid and test; equal documents, and those shown together, stay together.

        The test part does not depend on ``valid``.

        Raises:
            DataError: shares out of range, or too few documents, so that a part would be empty.
        """
        parts = split_groups(self.whole.assignment.cluster[self.rows], seed, valid, test_share, valid_share)
        subsets = tuple(self.subset(indices, part=name) for name, indices in parts.items())
        for subset in subsets:
            subset.origin.update(split_settings(seed, valid, test_share, valid_share))
        return subsets

    def _summary_numbers(self) -> Tensor:
        summary_of = self.whole.assignment.summary_of
        if summary_of is None:
            raise DataError(f"{self.name} holds no summaries{self.whole.no_summaries}")
        return summary_of


class InMemoryDocuments(DocumentDataset):
    """Documents of varying length, each with the summary of another one.

    Fields: ``x`` tokens (t,); ``summary`` tokens (t,) of another document, where there are summaries; ``label``, where there are
    classes.  ``form`` of both token fields is the packed vocabulary.

    Args:
        records: the documents.
        tokenizer: see ``reprkit_text.vocabulary``; trained on documents and summaries.
        name: for reports.
        length: largest number of symbols of a document; the rest is cut off and counted.  None: no limit.
        summary_length: the same for a summary.
        paired: keep only documents with a summary, each shown with its own: for supervised training.
        classes: names of the labels; None takes those of the records, sorted.
        facts: for ``describe``.
        no_summaries: end of the message that there are no summaries.

    Raises:
        DataError: no documents, a length out of range, or a vocabulary that cannot encode them.
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
        no_summaries: str = "",
    ) -> None:
        if not records:
            raise DataError(f"{name} holds no documents")
        self._name, self.whole, self.no_summaries = name, self, no_summaries
        self.assignment = assign_summaries(records)
        summaries = (
            [record.summary or "" for record in records] if self.assignment.summary_of is not None else []
        )
        self._vocabulary = vocabulary(
            tokenizer, [*(record.document for record in records), *filter(None, summaries)]
        )
        if paired:  # after both, so that parts and vocabulary equal those of the unpaired set
            self._summary_numbers()
            own = [number for number, record in enumerate(records) if record.summary]
            records, summaries = [records[number] for number in own], [summaries[number] for number in own]
            self.assignment = SummaryAssignment(
                cluster=self.assignment.cluster[own], summary_of=torch.arange(len(own))
            )
        self.records = records
        self._x = Symbols((record.document for record in records), self._vocabulary, length)
        self._summary = Symbols(summaries, self._vocabulary, summary_length) if summaries else None
        self.facts = {
            **(facts or {}),
            "tokenizer": self._vocabulary.source,
            **check_symbols(self._x, self._vocabulary, name, records[0].document),
        }
        field = Field(kind="tokens", shape=(None,), vocab=self._vocabulary.size, form=self._vocabulary.form)
        fields = {"x": field} | ({"summary": field} if summaries else {})
        names = sorted({record.label for record in records if record.label is not None})
        if names and all(record.label is not None for record in records):
            order = list(classes) if classes is not None else names
            class_index = {label: index for index, label in enumerate(order)}
            self._labels: Tensor | None = torch.tensor([class_index[str(record.label)] for record in records])
            fields["label"] = Field(kind="label", shape=(), vocab=len(order), classes=tuple(order))
            self.facts["classes"] = order
        else:
            self._labels = None
        self.signature = Signature(fields)

    def __len__(self) -> int:
        """Return how many documents there are."""
        return len(self.records)

    @property
    def rows(self) -> Int[Tensor, " n"]:
        """The indices of all documents."""
        return torch.arange(len(self))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one document; a negative index counts from the end."""
        index = range(len(self))[index]
        example = {"x": self._x[index]}
        if self._summary is not None and self.assignment.summary_of is not None:
            example["summary"] = self._summary[int(self.assignment.summary_of[index])]
        return example if self._labels is None else example | {"label": self._labels[index]}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at indices (b,), padded, with masks; one look-up for each field."""
        index = to_index(indices)
        examples = dict(zip(("x", "x_mask"), self._x.pad_batch(index), strict=True))
        if self._summary is not None and self.assignment.summary_of is not None:
            summaries = self._summary.pad_batch(self.assignment.summary_of[index])
            examples |= dict(zip(("summary", "summary_mask"), summaries, strict=True))
        return examples if self._labels is None else examples | {"label": self._labels[index]}

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Return the number of symbols of every document, and of the summary shown with it."""
        lengths = {"x": self._x.lengths}
        if self._summary is not None and self.assignment.summary_of is not None:
            lengths["summary"] = self._summary.lengths[self.assignment.summary_of]
        return lengths

    @property
    def name(self) -> str:
        """A short name for reports."""
        return self._name


class DocumentSubset(DocumentDataset, Subset):
    """Some documents of a set, with the summaries that the whole set shows with them."""

    def __init__(
        self, data: DocumentDataset, indices: Tensor | Iterable[int], *, part: str = "subset"
    ) -> None:
        super().__init__(data, indices, part=part)
        if isinstance(data, DocumentSubset):  # one look-up at any depth of nesting
            self.data, self.indices = data.data, data.indices[self.indices]
            self.origin["within"] = {"part": data.part, **data.origin}
            if part == "subset":
                self.part = data.part  # a subset of the training part is still of the training part
        self.whole = data.whole

    @property
    def rows(self) -> Int[Tensor, " n"]:
        """Indices of its documents in the whole set."""
        return self.indices
