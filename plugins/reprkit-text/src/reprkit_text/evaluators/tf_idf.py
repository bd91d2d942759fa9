"""TF-IDF and logistic regression: what counting words is worth, beside any model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from reprkit import Evaluator, Field
from reprkit.errors import DataError
from reprkit.evaluation.label_subset import label_subset, labels_of
from reprkit.registry.constraints import Count, Positive, Seed
from reprkit_text.transformers_networks.symbols import field_vocabulary

if TYPE_CHECKING:
    from reprkit import Dataset, Model


class TfIdf(Evaluator):
    """Multinomial logistic regression on TF-IDF of words and word n-grams, fitted on ``fit_on``: ``accuracy`` and ``n``.

    The model is not asked.  The texts are what it reads: symbols up to the data set's ``length``, decoded; symbols without a
    vocabulary are words of their own.  scikit-learn's ``TfidfVectorizer`` (sublinear counts, small letters) and
    ``LogisticRegression``.  Sparck Jones 1972; Salton and Buckley 1988.

    Args:
        C: inverse strength of the L2 penalty, positive.
        ngrams: words in a row that count as one term, at most.
        field: of symbols.
        label: the label field.
        labels: fit on so many labelled examples only, as many of each class as can be; None takes all.
        seed: which those are.
    """

    def __init__(
        self,
        *,
        C: Positive = 10.0,
        ngrams: Count = 1,
        field: str = "x",
        label: str = "label",
        labels: Annotated[int, Ge(2)] | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.C, self.ngrams, self.field, self.label = C, ngrams, field, label
        self.labels, self.seed = labels, seed

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Accuracy on ``data``, in [0, 1].

        Raises:
            DataError: no ``fit_on``, no labels, only one class among them, or data that is no symbols.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        if fit_on is None:
            raise DataError("tf-idf is fitted on labelled examples: give evaluate(..., fit_on=train)")
        chosen = label_subset(fit_on, self.labels, label=self.label, seed=self.seed)
        y, truth = (labels_of(each, self.label, "tf-idf") for each in (chosen, data))
        if len(set(y.tolist())) < 2:
            raise DataError(
                f"tf-idf needs two classes at least; every label {self.label!r} of fit_on is {y[0]}"
            )
        terms = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, self.ngrams), token_pattern=r"(?u)\b\w+\b")
        x = terms.fit_transform(_decode_texts(chosen, self.field))
        probe = LogisticRegression(C=self.C, max_iter=2000).fit(x, y)
        guess = probe.predict(terms.transform(_decode_texts(data, self.field)))
        return {"accuracy": float((guess == truth).mean()), "n": len(truth)}


def _decode_texts(data: Dataset, name: str) -> list[str]:
    """The texts that a field's symbols stand for.

    Raises:
        DataError: it holds no symbols.
    """
    field: Field = data.signature[name]
    if field.kind != "tokens":
        raise DataError(f"tf-idf counts words, and {name} is {field.kind} data")
    words = field_vocabulary(field)
    found = []
    for batch in data.batches():
        rows = batch[name]
        mask = batch.get(f"{name}_mask")
        kept = [row if mask is None else row[mask[place]] for place, row in enumerate(rows)]
        found += [" ".join(map(str, row.tolist())) if words is None else words.decode(row) for row in kept]
    return found
