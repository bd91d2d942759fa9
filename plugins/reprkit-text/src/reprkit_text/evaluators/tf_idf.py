"""TF-IDF and logistic regression: a word-count baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from reprkit import Evaluator, Field
from reprkit.errors import DataError
from reprkit.evaluation.label_subset import label_subset, labels_of
from reprkit.registry.constraints import Count, Positive, Seed
from reprkit_text.decoded_text import field_symbols, to_text
from reprkit_text.transformers_networks.symbols import field_vocabulary

if TYPE_CHECKING:
    from reprkit import Dataset, Model


class TfIdf(Evaluator):
    """Multinomial logistic regression on TF-IDF of words and word n-grams, fitted on ``fit_on``: ``accuracy`` and ``n``.

    The model is not used.  The texts are those that it reads: symbols up to the data set's ``length``, decoded; symbols without
    a vocabulary count as words.  scikit-learn's ``TfidfVectorizer`` (sublinear counts, lower case) and
    ``LogisticRegression``.  Sparck Jones 1972; Salton and Buckley 1988.

    Args:
        C: inverse strength of the L2 penalty, positive.
        ngrams: largest number of consecutive words that form a term.
        field: the field of symbols.
        label: the label field.
        labels: number of labeled examples to fit on, balanced over classes as far as possible; None uses all.
        seed: seed of the choice of these examples.
    """

    def __init__(
        self,
        *,
        C: Positive = 10.0,
        ngrams: Count = 1,
        field: str = "x",
        label: str = "label",
        labels: Annotated[int, Ge(2), Le(10**9)] | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.C, self.ngrams, self.field, self.label = C, ngrams, field, label
        self.labels, self.seed = labels, seed

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the accuracy on ``data``, in [0, 1].

        Raises:
            DataError: no ``fit_on``, no labels, only one class among them, or data that is not symbols.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        if fit_on is None:
            raise DataError("tf-idf is fitted on labeled examples: pass evaluate(..., fit_on=train)")
        chosen = label_subset(fit_on, self.labels, label=self.label, seed=self.seed)
        y, truth = (labels_of(part, self.label, "tf-idf") for part in (chosen, data))
        if len(set(y.tolist())) < 2:
            raise DataError(
                f"tf-idf needs at least two classes; every label {self.label!r} of fit_on is {y[0]}"
            )
        terms = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, self.ngrams), token_pattern=r"(?u)\b\w+\b")
        x = terms.fit_transform(_decode_texts(chosen, self.field))
        classifier = LogisticRegression(C=self.C, max_iter=2000).fit(x, y)
        predicted = classifier.predict(terms.transform(_decode_texts(data, self.field)))
        return {"accuracy": float((predicted == truth).mean()), "n": len(truth)}


def _decode_texts(data: Dataset, name: str) -> list[str]:
    """Decode a field's symbols to texts.

    Raises:
        DataError: the field holds no symbols.
    """
    field: Field = data.signature[name]
    if field.kind != "tokens":
        raise DataError(f"tf-idf counts words, and {name} is {field.kind} data")
    return to_text(field_symbols(data, name), field_vocabulary(field))
