"""Examples of any lengths, held in memory as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.signature import Signature


class InMemory(Dataset):
    """A data set of examples that were made already; a batch is padded to its own longest.

    Args:
        examples: field -> tensor, at least one.
        signature: what each field is.
        name: for reports.
    """

    def __init__(self, examples: Sequence[dict[str, Tensor]], signature: Signature, name: str) -> None:
        self._examples, self.signature, self._name = list(examples), signature, name

    def __len__(self) -> int:
        """How many examples."""
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One example; a negative index counts from the end."""
        return dict(self._examples[index])

    def lengths(self) -> dict[str, Tensor]:
        """Of the fields whose length varies."""
        varies = [name for name, field in self.signature.items() if None in field.shape]
        return {name: torch.tensor([len(each[name]) for each in self._examples]) for name in varies}

    @property
    def name(self) -> str:
        """A short name for reports."""
        return self._name
