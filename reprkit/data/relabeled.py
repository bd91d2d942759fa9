"""A data set with the classes of its labels renumbered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.collation import to_index
from reprkit.data.formats.value_readers import class_facts
from reprkit.data.signature import Field, Signature


def relabeled_signature(signature: Signature, classes: Mapping[str, list[str]]) -> Signature:
    """Return the signature with the classes of label fields replaced."""
    fields = {
        name: Field(kind="label", shape=(), vocab=len(names), classes=tuple(names))
        for name, names in classes.items()
    }
    return Signature({**signature, **fields})


def renumber(batch: Mapping[str, Tensor], numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch, or an example, with its labels renumbered: field -> old number -> new number."""
    renumbered = {
        name: new[batch[name].cpu()].to(batch[name].device) for name, new in numbers.items() if name in batch
    }
    return {**batch, **renumbered}


class Relabeled(Dataset):
    """A data set with the classes of its labels renumbered.

    Args:
        data: has these label fields.
        numbers: field -> old number -> new number.
        classes: field -> names of the new classes, in order.
    """

    def __init__(
        self, data: Dataset, numbers: Mapping[str, list[int]], classes: Mapping[str, list[str]]
    ) -> None:
        self._data, self._classes = data, classes
        self._numbers = {name: torch.tensor(values) for name, values in numbers.items()}
        self.signature = relabeled_signature(data.signature, classes)
        self.reference, self.facts = data.reference, {**data.facts, **class_facts(dict(classes))}

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example."""
        return renumber(self._data[index], self._numbers)

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at ``indices`` (b,)."""
        return renumber(self._data.batch(to_index(indices)), self._numbers)

    def label_values(self, field: str) -> Int[Tensor, " n"]:
        """Return a label field of all examples (n,)."""
        return renumber({field: self._data.label_values(field)}, self._numbers)[field]

    def raw(self, index: int) -> str | Path | None:
        """Return what the example was read from."""
        return self._data.raw(index)

    def identities(self) -> Sequence[str] | None:
        """Return what each example is."""
        return self._data.identities()

    def split_level(self) -> int:
        """Return how many splits lie between the whole data set and this one."""
        return self._data.split_level()

    def fit_statistics(self, rows: Int[Tensor, " m"]) -> Relabeled:
        """Return the same with the other data set's statistics learned from these examples (m,)."""
        numbers = {name: values.tolist() for name, values in self._numbers.items()}
        return Relabeled(self._data.fit_statistics(rows), numbers, self._classes)

    def lengths(self) -> Mapping[str, Int[Tensor, " n"]] | None:
        """Return the lengths of the examples."""
        return self._data.lengths()

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._data.name
