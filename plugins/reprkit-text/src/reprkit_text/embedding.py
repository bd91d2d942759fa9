"""Embed texts with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import BuildError, DataError
from reprkit.models.factor import resolve_factor
from reprkit.registry import constraints
from reprkit.registry.constraints import Count
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
    batch: Count = 64,
    length: Count | None = None,
) -> Float[Tensor, "n d"]:
    """Return one vector per text: the mean of its code over its symbols (``model.represent``), on the CPU.

    Texts are encoded with the vocabulary of the model's own data, which its checkpoint holds.  They are batched by length, so
    that little is padded; the vectors come in the order of the texts.

    Args:
        model: a model trained on data with a vocabulary (data sets text, documents, debian), or its folder.
        texts: at least one text.
        factor: use only this factor's code; None concatenates all factors' codes.
        batch: number of texts encoded at a time.
        length: largest number of symbols of a text; None: as many as the encoder can read.

    Raises:
        BuildError: a model without encoder or without that factor, or trained on data without a vocabulary.
        PartArgumentError: ``batch`` or ``length`` out of range.
        DataError: a text that is empty, or for which the vocabulary has no symbol.
    """
    constraints.check_arguments(embed, {"batch": batch, "length": length}, "embed")
    if isinstance(model, str):
        import reprkit

        model = reprkit.load(model)
    if not model.factors:
        raise BuildError("this model has no encoder, so it cannot embed texts")
    name = next(iter(model.factors)) if factor is None else resolve_factor(model.factors, factor, "embed")
    entry = model.factors[name]
    field = None if model.signature is None else model.signature[entry.input]
    vocabulary = check_texts(texts, "text", None if field is None else field_vocabulary(field))
    if not len(texts):
        raise DataError("there are no texts to embed")
    symbols = Symbols(texts, vocabulary, length or getattr(entry.encoder, "most", None))
    if int(symbols.lengths.min()) == 0:
        raise DataError(f"{vocabulary.source} makes no symbols of text {int(symbols.lengths.argmin())}")

    def embed_batch(inputs: Batch) -> Sequence[Tensor]:
        return model.represent(inputs, factor).float().cpu().unbind()

    return torch.stack(map_in_batches(model, entry.input, symbols, batch, embed_batch))
