"""Texts to vectors, by a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import BuildError, DataError
from reprkit.types import Batch
from reprkit_text.batched import check_texts, map_in_batches
from reprkit_text.data.symbols import Symbols
from reprkit_text.transformers_networks.symbols import field_vocabulary

if TYPE_CHECKING:
    from reprkit import Model


def embed(
    model: Model | str,
    texts: Sequence[str],
    *,
    factor: str | None = None,
    batch: int = 64,
    length: int | None = None,
) -> Float[Tensor, "n d"]:
    """One vector a text: the mean of its code over its symbols (``model.represent``), on the CPU.

    The symbols are made with the vocabulary of the model's own data, which its checkpoint holds.  Texts are encoded in the order
    of their lengths, so that little is padded, and come back in their own.

    Args:
        model: that was trained on symbols of a vocabulary (data sets text, documents, debian), or its folder.
        texts: any number of them.
        factor: only this factor's code; all factors' in a row when None.
        batch: texts that are encoded at a time.
        length: symbols of a text at most; None: as many as the encoder can read.

    Raises:
        BuildError: a model without encoder, or of data that was not made with a vocabulary.
        DataError: a text that is empty, or that the vocabulary has no symbol for.
    """
    if isinstance(model, str):
        import reprkit

        model = reprkit.load(model)
    if not model.factors:
        raise BuildError("this model has no encoder, so it has no vectors of texts")
    path = next(iter(model.factors.values())) if factor is None else model.factors[factor]
    field = None if model.signature is None else model.signature[path.input]
    words = check_texts(texts, "text", None if field is None else field_vocabulary(field))
    if not len(texts):
        raise DataError("there are no texts to embed")
    symbols = Symbols(texts, words, length or getattr(path.encoder, "most", None))
    if int(symbols.lengths.min()) == 0:
        raise DataError(f"{words.source} makes no symbols of text {int(symbols.lengths.argmin())}")

    def vectors(given: Batch) -> Sequence[Tensor]:
        return model.represent(given, factor).float().cpu().unbind()

    return torch.stack(map_in_batches(model, path.input, symbols, batch, vectors))
