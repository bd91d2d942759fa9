"""Sentences with the trees that a model finds for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Model
from reprkit_structure.evaluators.bracket_f1 import trees_of
from reprkit_structure.layers.brackets import brackets_of


class InducedTrees(Dataset):
    """A treebank whose brackets are those of a model: ``opens`` and ``closes`` are replaced, everything else stays.

    Args:
        data: sentences, with fields ``x``, ``opens`` and ``closes``.
        model: finds trees, see ``bracket-f1``; it is put into evaluation mode.

    Raises:
        BuildError: the model finds no trees.
    """

    @torch.no_grad()
    def __init__(self, data: Dataset, model: Model) -> None:
        self._data, self.signature = data, data.signature
        self.reference, self.facts = data.reference, dict(data.facts)
        self._trees: list[tuple[Tensor, Tensor]] = []
        model.eval()
        for batch in data.batches():
            mask = batch.get("x_mask")
            lengths = [batch["x"].shape[1]] * len(batch["x"]) if mask is None else mask.sum(1).tolist()
            for chart, length in zip(trees_of(model, batch).cpu(), lengths, strict=True):
                self._trees.append(brackets_of(chart[:length, :length]))

    def __len__(self) -> int:
        """Number of sentences."""
        return len(self._data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one sentence."""
        opens, closes = self._trees[index]
        return {**self._data[index], "opens": opens, "closes": closes}

    def lengths(self) -> dict[str, Int[Tensor, " n"]] | None:
        """Return the number of words of each sentence, for every field."""
        found = self._data.lengths()
        return None if found is None else dict(found)

    def identities(self) -> Sequence[str] | None:
        """Return what each sentence is."""
        return self._data.identities()

    def split_level(self) -> int:
        """Return how many splits lie between the whole data set and this one."""
        return self._data.split_level()
