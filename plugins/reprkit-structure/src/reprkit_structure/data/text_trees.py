"""Base of the data sets of texts with expressions: words, and the derivations of syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.errors import DataError
from reprkit_structure.layers.python_rules import Step, form_of, python_rules

Pair = tuple[tuple[str, ...], str, list[Step]]  # words, the source of the expression, its derivation


class TextTrees(Dataset):
    """Texts with the expressions that they describe.

    Fields: ``x`` tokens (t,), the words; ``tree`` tokens (t,), the derivation of the expression's syntax tree: its rules
    (``reprkit_structure.layers.python_rules``), whose vocabulary is in the field's ``form``.

    ``facts["words"]`` are the words in order.  Texts with the same expression stay in one part of a split.
    """

    def _fill(
        self, pairs: Sequence[Pair], words: Sequence[str], pieces: Sequence[str], constants: Sequence[str]
    ) -> None:
        """Take over the pairs; the vocabularies are given, so that parts of one data set have the same.

        Raises:
            DataError: no pairs.
        """
        if not pairs:
            raise DataError(f"{self.name}: no text with an expression fits these arguments")
        rules, number = python_rules(pieces, constants), {word: place for place, word in enumerate(words)}
        self._pairs = pairs
        self._rows = [
            {
                "x": torch.tensor([number[word] for word in text]),
                "tree": torch.tensor([rules.find[step] for step in steps]),
            }
            for text, _, steps in pairs
        ]
        self.signature = Signature(
            {
                "x": Field(kind="tokens", shape=(None,), vocab=len(words)),
                "tree": Field(
                    kind="tokens", shape=(None,), vocab=len(rules.names), form=form_of(pieces, constants)
                ),
            }
        )
        self.facts: dict[str, Any] = {
            "words": list(words),
            "longest_tree": max(len(steps) for *_, steps in pairs),
        }

    def __len__(self) -> int:
        """Number of texts."""
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one text with its tree; a negative index counts from the end."""
        return dict(self._rows[index])

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Return the number of words and of rules."""
        return {name: torch.tensor([len(row[name]) for row in self._rows]) for name in self.signature}

    def identities(self) -> list[str]:
        """Return the expression of each text."""
        return [source for _, source, _ in self._pairs]

    def text(self, index: int) -> str:
        """Return the words of a text, separated by spaces."""
        return " ".join(self._pairs[index][0])

    def source(self, index: int) -> str:
        """Return the expression of a text, as Python writes it."""
        return self._pairs[index][1]


def pair_of(words: Sequence[str], node: ast.expr, steps: list[Step]) -> Pair:
    """Return a row of a data set."""
    return tuple(words), ast.unparse(node), steps
