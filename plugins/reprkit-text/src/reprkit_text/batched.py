"""Run a trained model on texts batch by batch, with the vocabulary of its own data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from reprkit.errors import BuildError, DataError
from reprkit.types import Batch
from reprkit.utils.modes import eval_mode
from reprkit_text.data.records import strip_text

if TYPE_CHECKING:
    from reprkit import Model
    from reprkit_text.data.symbols import Symbols
    from reprkit_text.vocabulary import Vocabulary

Result = TypeVar("Result")


def check_texts(texts: Sequence[str], what: str, vocabulary: Vocabulary | None) -> Vocabulary:
    """Check texts and vocabulary; return the vocabulary.

    Raises:
        BuildError: the model's data has no vocabulary.
        DataError: an element that is not a text, or is empty; ``what`` names it.
    """
    if vocabulary is None:
        raise BuildError(
            "the model's data has no vocabulary, so it cannot read texts: train it on data set text, documents "
            "or debian"
        )
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not strip_text(text):
            raise DataError(f"{what} {number} is {'empty' if isinstance(text, str) else type(text).__name__}")
    return vocabulary


@torch.no_grad()
def map_in_batches(
    model: Model, field: str, symbols: Symbols, batch: int, function: Callable[[Batch], Sequence[Result]]
) -> list[Result]:
    """Apply ``function`` to batches of texts sorted by length, so that little is padded; return results in the texts' order."""
    order, results = symbols.lengths.argsort(stable=True), list[Result]()
    with eval_mode(model):
        for rows in order.split(batch):
            x, mask = symbols.pad_batch(rows)
            results += function(model.to_device({field: x, f"{field}_mask": mask}))
    return [results[index] for index in order.argsort().tolist()]
