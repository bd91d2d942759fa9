"""The data's symbols as a network of transformers numbers them: the same, but for the mask of corruptions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.signature import Field
from reprkit.errors import BuildError, DataError
from reprkit_text.vocabulary import Vocabulary, vocabulary


@dataclass(frozen=True)
class Numbering:
    """How symbols are numbered.

    Attributes:
        vocab: symbols of the data, 0 to vocab - 1; ``vocab`` itself is the mask of corruptions.
        rows: of the network's table of embeddings.
        mask: the mask symbol's row.
    """

    vocab: int
    rows: int
    mask: int

    def __call__(self, x: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
        """The data's symbols as rows."""
        return x if self.mask == self.vocab else torch.where(x == self.vocab, self.mask, x)


def field_vocabulary(field: Field) -> Vocabulary | None:
    """The vocabulary that the field's symbols were made with; None where its form says of none."""
    return vocabulary(field.form) if field.form is not None and field.form.startswith("vocabulary(") else None


def make_numbering(field: Field, part: str, rows: int | None) -> Numbering:
    """The numbering for data, and for a checkpoint with ``rows`` embeddings if there is one.

    A vocabulary with a mask symbol of its own keeps it.  Else the mask is the row behind the data's symbols, which none of
    them uses; where the checkpoint has no such row, it gets one.

    Raises:
        BuildError: the field holds no symbols, or more than the checkpoint knows.
    """
    if field.kind != "tokens" or field.vocab is None:
        raise BuildError(
            f"{part} reads symbols (tokens with a vocab), and x is {field.kind} data: use transformer"
        )
    words = field_vocabulary(field)
    own = None if words is None else words.mask
    if rows is not None and field.vocab > rows:
        raise BuildError(
            f"the data has {field.vocab} symbols, and the checkpoint knows {rows}: make the symbols with the checkpoint's own "
            "tokenizer, tokenizer='FOLDER' of the data set"
        )
    mask = field.vocab if own is None else own
    return Numbering(field.vocab, max(rows or field.vocab, mask + 1), mask)


def check_length(steps: int, most: int | None, part: str) -> None:
    """Refuse texts that are longer than the network has positions.

    Raises:
        DataError: they are.
    """
    if most is not None and steps > most:
        raise DataError(
            f"{part} reads at most {most} symbols, and the longest text of the batch has {steps}\n"
            f"  cut them: length={most} of the data set; or make a network that reads more: positions={steps}"
        )
