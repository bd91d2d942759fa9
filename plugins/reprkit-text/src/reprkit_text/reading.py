"""Texts that a trained model reads one batch after another, with the vocabulary of its own data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from reprkit.errors import BuildError, DataError
from reprkit.types import Batch
from reprkit.utils.modes import eval_mode
from reprkit_text.data.records import written

if TYPE_CHECKING:
    from reprkit import Model
    from reprkit_text.data.symbols import Symbols
    from reprkit_text.vocabulary import Vocabulary

Made = TypeVar("Made")


def checked(texts: Sequence[str], what: str, words: Vocabulary | None) -> Vocabulary:
    """The vocabulary, where there is one and every text is one.

    Raises:
        BuildError: the model's data was not made with a vocabulary.
        DataError: a text that is none, or empty; ``what`` names it.
    """
    if words is None:
        raise BuildError(
            "the model's data was not made with a vocabulary, so it cannot read texts: train it on data set text, documents "
            "or debian"
        )
    for number, each in enumerate(texts):
        if not isinstance(each, str) or not written(each):
            raise DataError(f"{what} {number} is {'empty' if isinstance(each, str) else type(each).__name__}")
    return words


@torch.no_grad()
def each_of(
    model: Model, field: str, symbols: Symbols, batch: int, make: Callable[[Batch], Sequence[Made]]
) -> list[Made]:
    """What ``make`` gives of each text, in the texts' order; they are read in that of their lengths, so that little is padded."""
    order, made = symbols.lengths.argsort(stable=True), list[Made]()
    with eval_mode(model):
        for rows in order.split(batch):
            x, mask = symbols.padded(rows)
            made += make(model.to_device({field: x, f"{field}_mask": mask}))
    return [made[place] for place in order.argsort().tolist()]
