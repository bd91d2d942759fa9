"""Readability: what a language model of texts that people wrote makes of those that a model writes."""

from __future__ import annotations

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
    """Perplexity a symbol, the end of a text included, under an n-gram model of what people wrote in ``fit_on``.

    - ``perplexity``: of what the model writes: the words of its code, else the likeliest symbols of its decoder;
    - ``human``: of what people wrote in ``data``, which the language model has not seen;
    - ``lead-10``: of the first ten words of its documents, where the symbols are of a vocabulary;
    - ``n``: texts.

    A latent of words is held against field ``field``, human summaries; a decoder's output against the documents.  Low is not
    good by itself: one text for all documents can be likelier than any human one.  So see ``distinct``, the share of texts that
    the model writes once only.

    The language model is interpolated n-grams (Witten and Bell 1991; nltk), the same for every model on the same data.

    Args:
        field: human summaries.
        order: symbols that the language model looks at, its own included.
        limit: of so many examples only, the first ones; None: all.
    """

    def __init__(self, *, field: str = "summary", order: Count = 3, limit: Count | None = None) -> None:
        super().__init__()
        self.field, self.order, self.limit = field, order, limit

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """The figures above.

        Raises:
            BuildError: a model with neither a latent of words nor a decoder of symbols.
            DataError: no ``fit_on``, or a latent of words and no such field.
        """
        words = decoded_text.model_vocabulary(model, "readability")
        if fit_on is None:
            raise DataError(
                "readability learns from what people wrote: give evaluate(..., fit_on=train), whose summaries it reads"
            )
        name = model.output if decoded_text.words_factor(model) is None else self.field
        for each in (fit_on, data):
            each.signature[name]  # says which fields there are
        if self.limit is not None and self.limit < len(data):
            data = data.subset(range(self.limit))
        vocab = data.signature[name].vocab
        assert vocab is not None  # a field of symbols
        human = Ngrams(decoded_text.field_symbols(fit_on, name), vocab, self.order)
        made = decoded_text.write_texts(model, data)
        found: dict[str, Any] = {
            "perplexity": human.perplexity(made),
            "human": human.perplexity(decoded_text.field_symbols(data, name)),
        }
        if words is not None and hasattr(data, "documents"):
            found["lead-10"] = human.perplexity(
                words.encode_all([first_words(each, 10) for each in data.documents])
            )
        counts: dict[tuple[int, ...], int] = {}
        for row in made:
            counts[tuple(row)] = counts.get(tuple(row), 0) + 1
        return found | {"distinct": sum(each == 1 for each in counts.values()) / len(made), "n": len(made)}
