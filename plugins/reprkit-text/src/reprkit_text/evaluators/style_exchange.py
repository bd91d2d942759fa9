"""Exchanged styles: the text of one example written in the style of another, judged by a classifier and by the words kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from reprkit import Evaluator
from reprkit.errors import BuildError, DataError
from reprkit.evaluation.label_subset import labels_of
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import Count
from reprkit_text.decoded_text import field_symbols, to_text
from reprkit_text.evaluators.rouge import Rouge
from reprkit_text.transformers_networks.symbols import field_vocabulary

if TYPE_CHECKING:
    from reprkit import Dataset, Model


class StyleExchange(Evaluator):
    """What a model writes from the meaning of one example and the style of another one, in which a decoder reads both factors.

    The data has two texts of each example (data set verses): ``x`` and, in another style, ``other``.  Factor ``style`` reads the
    ``x`` of another example with the same label; all other factors read the example's ``other``.  The decoder writes greedily
    as many symbols as ``other`` has.  What it should have written is the example's own ``x``, which the model has not read.

    - ``judged``: share of texts that a classifier takes for the style asked for: TF-IDF of words and word pairs and logistic
      regression, fitted on ``fit_on``; ``judged_unchanged`` is that of ``other`` as it is, ``judged_human`` that of the true ``x``.
    - ``kept``: ROUGE-1 (F) with the true ``x``; ``kept_unchanged`` is that of ``other``, and ``kept_by_chance`` that of the true
      ``x`` of another example.

    Args:
        style: the factor that is exchanged.
        label: the label field of the styles.
        limit: evaluate on this many examples only, the first ones; None: all.
        batch: number of examples written at a time.
    """

    def __init__(
        self,
        style: str = "style",
        *,
        label: str = "translation",
        limit: Count | None = 200,
        batch: Count = 50,
    ) -> None:
        super().__init__()
        self.style, self.label, self.limit, self.batch = style, label, limit, batch

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above and ``n``.

        Raises:
            BuildError: no such factor, no causal decoder, or data without a vocabulary.
            DataError: no ``fit_on``, or fields that are missing.
        """
        resolve_factor(model.factors, self.style, "style-exchange")
        if model.decoder is None or "causal" not in model.decoder.provides:
            raise BuildError("style-exchange writes texts: it needs a causal decoder, such as pointer")
        if fit_on is None:
            raise DataError("style-exchange fits a classifier of styles: pass evaluate(..., fit_on=train)")
        vocabulary = field_vocabulary(data.signature["x"])
        if vocabulary is None:
            raise BuildError("style-exchange reads texts, and field x has no vocabulary: use data set verses")
        judge = self._fit_judge(fit_on)
        data = data.subset(range(min(len(data), self.limit or len(data))))
        styles = torch.as_tensor(labels_of(data, self.label))
        rows: list[list[int]] = []
        for index in torch.arange(len(data)).split(self.batch):
            rows += self._write(model, data, index, styles)
        texts = {
            "": to_text(rows, vocabulary),
            "_unchanged": to_text(field_symbols(data, "other"), vocabulary),
            "_human": to_text(field_symbols(data, "x"), vocabulary),
        }
        human, metrics = texts["_human"], dict[str, Any]()
        for name, written in texts.items():
            metrics[f"judged{name}"] = float((judge.predict(written) == styles.numpy()).mean())
        texts["_by_chance"] = [human[number] for number in _next_of_same_style(styles).tolist()]
        for name in ("", "_unchanged", "_by_chance"):
            metrics[f"kept{name}"] = Rouge(stem=False).mean_scores(human, texts[name])["rouge1"]
        return {**metrics, "n": len(data)}

    def _write(
        self, model: Model, data: Dataset, index: torch.Tensor, styles: torch.Tensor
    ) -> list[list[int]]:
        batch, given = data.batch(index), data.batch(_next_of_same_style(styles)[index])
        swapped = {name: value for name, value in batch.items() if not name.startswith("x")}
        swapped |= {name: value for name, value in given.items() if name in ("x", "x_mask")}
        codes = model.encode(model.to_device(swapped))
        mask = batch["other_mask"]
        written = model.generate(codes, length=mask.shape[1], temperature=0.0).x[..., 0].long().cpu()
        return [row[:count].tolist() for row, count in zip(written, mask.sum(1).tolist(), strict=True)]

    def _fit_judge(self, fit_on: Dataset) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        vectors = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
        texts = to_text(field_symbols(fit_on, "x"), field_vocabulary(fit_on.signature["x"]))
        judge = make_pipeline(vectors, LogisticRegression(C=10, max_iter=500))
        return judge.fit(texts, labels_of(fit_on, self.label))


def _next_of_same_style(styles: torch.Tensor) -> torch.Tensor:
    """Return for each example the next one of the same style, cyclically."""
    mates = torch.arange(len(styles))
    for style in styles.unique():
        members = (styles == style).nonzero().squeeze(1)
        mates[members] = members.roll(-1)
    return mates
