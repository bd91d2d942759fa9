"""Documents to summaries, by a trained model."""

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
    """The summary that a model writes of each document, on one line; the likeliest word at each place.

    No summary has more symbols than its document: one of a single word is at most a word, whatever the model would go on to say.
    Symbols are made with the vocabulary of the model's own data, which its checkpoint holds.  Documents are read in the order of
    their lengths, so that little is padded; the summaries come back in theirs.

    Args:
        model: with a latent of words, trained on symbols of a vocabulary (data sets text, documents, debian), or its folder.
        documents: any number of them, of any length.
        factor: which latent, where several are of words; the first of them when None.
        batch: documents that are read at a time.
        length: symbols of a document that are read at most, from its beginning; as many as the encoder can read if that is less.

    Raises:
        BuildError: a model without a latent of words, or of data that was not made with a vocabulary.
        DataError: a document that is no text or empty, or more than half of whose symbols the vocabulary does not know.
    """
    constraints.checked(summarize, {"batch": batch, "length": length}, "summarize")
    if isinstance(model, str):
        import reprkit

        model = reprkit.load(model)
    name = decoded_text.words_factor(model, factor)
    if name is None:
        raise BuildError(
            "this model writes no summaries: none of its latents is of words; train it with latent text"
        )
    words = check_texts(documents, "document", decoded_text.model_vocabulary(model, "summarize", name))
    if not len(documents):
        return []
    path = model.factors[name]
    most = getattr(path.encoder, "most", None)
    symbols = Symbols(documents, words, min(length, most or length))
    check_symbols(symbols, words, "these documents", documents[0])

    def summaries(given: Batch) -> list[str]:
        made, kept = decoded_text.batch_summaries(model, name, given)
        sizes = given[f"{path.input}_mask"].sum(1).tolist()
        rows = [row[valid].tolist()[:size] for row, valid, size in zip(made, kept, sizes, strict=True)]
        return decoded_text.to_text(rows, words)

    return map_in_batches(model, path.input, symbols, batch, summaries)
