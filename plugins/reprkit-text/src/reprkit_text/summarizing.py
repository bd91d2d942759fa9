"""Summarize documents with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reprkit.errors import BuildError
from reprkit.registry import constraints
from reprkit.registry.constraints import Count
from reprkit.types import Batch
from reprkit_text import decoded_text
from reprkit_text.batched import check_texts, map_in_batches
from reprkit_text.data.symbols import Symbols, check_symbols

if TYPE_CHECKING:
    from reprkit import Model


def summarize(
    model: Model | str,
    documents: Sequence[str],
    *,
    factor: str | None = None,
    batch: Count = 64,
    length: Count = 256,
) -> list[str]:
    """Return the summary that a model writes of each document, on one line; the likeliest word at each step.

    A summary is cut to as many symbols as its document has: that of a single word is at most one word.
    Documents are encoded with the vocabulary of the model's own data, which its checkpoint holds.  They are batched by length, so
    that little is padded; the summaries come in the order of the documents.

    Args:
        model: a model with a latent of words, trained on data with a vocabulary (data sets text, documents, debian); or its folder.
        documents: any number of documents of any length.
        factor: name of the factor whose latent is used, where several are of words; None for the first.
        batch: number of documents read at a time.
        length: largest number of symbols read of a document, from its beginning; at most what the encoder can read.

    Raises:
        BuildError: a model without a latent of words, or trained on data without a vocabulary.
        DataError: a document that is not a text or is empty, or more than half of all symbols unknown to the vocabulary.
    """
    constraints.check_arguments(summarize, {"batch": batch, "length": length}, "summarize")
    if isinstance(model, str):
        import reprkit

        model = reprkit.load(model)
    name = decoded_text.words_factor(model, factor)
    if name is None:
        raise BuildError(
            "this model writes no summaries: none of its latents is of words; train it with latent text"
        )
    vocabulary = check_texts(documents, "document", decoded_text.model_vocabulary(model, "summarize", name))
    if not len(documents):
        return []
    entry = model.factors[name]
    most = getattr(entry.encoder, "most", None)
    symbols = Symbols(documents, vocabulary, min(length, most or length))
    check_symbols(symbols, vocabulary, "these documents", documents[0])

    def summarize_batch(inputs: Batch) -> list[str]:
        words, mask = decoded_text.batch_summaries(model, name, inputs)
        sizes = inputs[f"{entry.input}_mask"].sum(1).tolist()
        rows = [row[valid].tolist()[:size] for row, valid, size in zip(words, mask, sizes, strict=True)]
        return decoded_text.to_text(rows, vocabulary)

    return map_in_batches(model, entry.input, symbols, batch, summarize_batch)
