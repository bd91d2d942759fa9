"""Readability: perplexity of a model's texts under a language model of human texts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from reprkit import Evaluator
from reprkit.errors import DataError
from reprkit.registry.constraints import Count
from reprkit_text import decoded_text
from reprkit_text.lead_baselines import first_words
from reprkit_text.ngrams import Ngrams

if TYPE_CHECKING:
    from reprkit import Dataset, Model


class Readability(Evaluator):
    """Perplexity per symbol, ends of texts included, under an n-gram model of the human texts in ``fit_on``.

    - ``perplexity``: of the model's texts: the words of its code, else the likeliest symbols of its decoder;
    - ``human``: of the human texts in ``data``, which the language model has not seen;
    - ``lead-10``: of the first ten words of its documents, where the symbols have a vocabulary;
    - ``n``: number of texts.

    The texts of a latent of words are compared with field ``field``, human summaries; a decoder's output with the documents.  Low
    is not good by itself: one text for all documents can be likelier than any human one.  So compare ``distinct``, the share of
    texts that the model writes only once.

    The language model is interpolated n-grams (Witten and Bell 1991; nltk), the same for every model on the same data.

    Args:
        field: the field of human summaries.
        order: n of the n-grams.
        limit: evaluate only this many examples, the first ones; None: all.
    """

    def __init__(self, *, field: str = "summary", order: Count = 3, limit: Count | None = None) -> None:
        super().__init__()
        self.field, self.order, self.limit = field, order, limit

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Compute the metrics above.

        Raises:
            BuildError: a model with neither a latent of words nor a decoder of symbols.
            DataError: no ``fit_on``, or a latent of words and no such field.
        """
        vocabulary = decoded_text.model_vocabulary(model, "readability")
        if fit_on is None:
            raise DataError(
                "readability fits a language model on human texts: pass evaluate(..., fit_on=train), whose summaries it reads"
            )
        name = model.output if decoded_text.words_factor(model) is None else self.field
        for dataset in (fit_on, data):
            dataset.signature[name]  # raises and names the known fields
        if self.limit is not None and self.limit < len(data):
            data = data.subset(range(self.limit))
        vocab = data.signature[name].vocab
        assert vocab is not None  # a field of symbols
        human = Ngrams(decoded_text.field_symbols(fit_on, name), vocab, self.order)
        texts = decoded_text.write_texts(model, data)
        metrics: dict[str, Any] = {
            "perplexity": human.perplexity(texts),
            "human": human.perplexity(decoded_text.field_symbols(data, name)),
        }
        if vocabulary is not None and hasattr(data, "documents"):
            metrics["lead-10"] = human.perplexity(
                vocabulary.encode_all([first_words(document, 10) for document in data.documents])
            )
        counts = Counter(map(tuple, texts))
        distinct = sum(count == 1 for count in counts.values()) / len(texts)
        return metrics | {"distinct": distinct, "n": len(texts)}
