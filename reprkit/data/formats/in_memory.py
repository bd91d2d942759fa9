"""Data set of examples of any lengths, held in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.signature import Signature


class InMemory(Dataset):
    """Data set of given examples; a batch is padded to its longest example.

    Args:
        examples: at least one example, each a dict of field -> tensor.
        signature: the fields.
        name: short name for reports.
    """

    def __init__(self, examples: Sequence[dict[str, Tensor]], signature: Signature, name: str) -> None:
        self._examples, self.signature, self._name = list(examples), signature, name

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example; a negative index counts from the end."""
        return dict(self._examples[index])

    def lengths(self) -> dict[str, Tensor]:
        """Return the lengths of the fields whose length varies."""
        varying = self.signature.varying_fields()
        return {name: torch.tensor([len(example[name]) for example in self._examples]) for name in varying}

    @property
    def name(self) -> str:
        """Short name for reports."""
        return self._name
