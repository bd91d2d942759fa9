"""Map the data's symbols to embedding rows of a network of transformers: identical, except for the mask of corruptions."""

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
    """Mapping of symbols to rows of the embedding table.

    Attributes:
        vocab: number of symbols of the data, 0 to vocab - 1; ``vocab`` itself is the mask of corruptions.
        rows: number of rows of the embedding table.
        mask: the mask symbol's row.
    """

    vocab: int
    rows: int
    mask: int

    def __call__(self, x: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
        """Map the data's symbols to rows."""
        return x if self.mask == self.vocab else torch.where(x == self.vocab, self.mask, x)


def field_vocabulary(field: Field) -> Vocabulary | None:
    """Return the vocabulary of the field's symbols, from its form; None where there is none."""
    return vocabulary(field.form) if field.form is not None and field.form.startswith("vocabulary(") else None


def make_numbering(field: Field, part: str, rows: int | None) -> Numbering:
    """Return the numbering for a field, given the number of a checkpoint's embedding rows, if any.

    A vocabulary with its own mask symbol keeps it.  Otherwise the mask is the unused row after the data's symbols; a checkpoint
    without that row gets one.

    Raises:
        BuildError: the field holds no symbols, or more than the checkpoint knows.
    """
    if field.kind != "tokens" or field.vocab is None:
        raise BuildError(
            f"{part} reads symbols (tokens with a vocab), and x is {field.kind} data: use encoder transformer"
        )
    words = field_vocabulary(field)
    own_mask = None if words is None else words.mask
    check_checkpoint_rows(field.vocab, rows)
    mask = field.vocab if own_mask is None else own_mask
    return Numbering(field.vocab, max(rows or field.vocab, mask + 1), mask)


def check_checkpoint_rows(vocab: int, rows: int | None) -> None:
    """Raise for data with more symbols than a checkpoint has rows; None: no checkpoint.

    Raises:
        BuildError: ``vocab`` exceeds ``rows``.
    """
    if rows is not None and vocab > rows:
        raise BuildError(
            f"the data has {vocab} symbols, and the checkpoint knows {rows}: encode the data with the checkpoint's own "
            "tokenizer, argument tokenizer='FOLDER' of the data set"
        )


def check_length(steps: int, most: int | None, part: str) -> None:
    """Raise for texts with more symbols than the network has positions.

    Raises:
        DataError: ``steps`` exceeds ``most``.
    """
    if most is not None and steps > most:
        raise DataError(
            f"{part} reads at most {most} symbols, and the longest text of the batch has {steps}\n"
            f"  cut them with length={most} of the data set, or build a larger network with positions={steps}"
        )
