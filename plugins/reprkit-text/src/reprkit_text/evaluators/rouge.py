"""ROUGE: the overlap of words and word pairs between a summary and a human one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reprkit import Evaluator
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Seed
from reprkit_text import decoded_text
from reprkit_text.lead_baselines import baseline_summaries

if TYPE_CHECKING:
    from reprkit import Dataset, Model

KINDS = ("rouge1", "rouge2", "rougeL")


class Rouge(Evaluator):
    """ROUGE-1, ROUGE-2 and ROUGE-L of a model's texts, F-measures in [0, 1]: ``summary.rouge1`` and so on, and ``n``.

    Against the human summaries of a valid or test part (data sets documents, debian): ``summary``, the model's, if its latent is of
    words; and baselines without a model, on the same uncut documents: ``lead-8``, ``lead-10`` and ``lead-sentence``, the first
    words or sentence; ``random-words`` (10, in their order) and ``random-sentence``.  Against the document as the model reads it:
    ``reconstruction``, the output of a decoder of symbols (a causal one is teacher-forced on the document).

    Package rouge-score (Lin 2004, "ROUGE: a package for automatic evaluation of summaries"), lower-case letters and digits only.

    Args:
        stem: stem words (Porter) before they are compared.
        limit: evaluate only this many documents, the first ones; None: all.
        seed: seed of the random words and sentences.
    """

    def __init__(self, *, stem: bool = True, limit: Count | None = None, seed: Seed = 0) -> None:
        super().__init__()
        self.stem, self.limit, self.seed = stem, limit, seed

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Compute the metrics above.

        Raises:
            BuildError: a model with neither a latent of words nor a decoder of symbols.
            DataError: a latent of words, no decoder, and data without human summaries; or a part whose pairs must not be seen.
        """
        vocabulary = decoded_text.model_vocabulary(model, "rouge")
        if self.limit is not None and self.limit < len(data):
            data = data.subset(range(self.limit))
        metrics: dict[str, Any] = {}
        if hasattr(data, "reference_pairs"):
            rows, pairs = data.reference_pairs()
            draw = random.Random(self.seed)
            baselines = [baseline_summaries(document, draw) for document, _ in pairs]
            proposed = {name: [row[name] for row in baselines] for name in baselines[0]} if baselines else {}
            if decoded_text.words_factor(model) is not None:
                proposed = {
                    "summary": decoded_text.to_text(
                        decoded_text.write_summaries(model, data.subset(rows)), vocabulary
                    )
                } | proposed
            human = [summary for _, summary in pairs]
            metrics = {name: self.mean_scores(human, texts) for name, texts in proposed.items()} | {
                "n": len(pairs)
            }
        elif model.decoder is None:
            raise DataError(
                f"rouge compares with human summaries, and {data.name} has none: use the valid or test "
                "part of data set documents or debian"
            )
        if model.decoder is not None:
            reconstructed = decoded_text.to_text(decoded_text.decode_outputs(model, data), vocabulary)
            documents = decoded_text.to_text(decoded_text.field_symbols(data, model.output), vocabulary)
            metrics["reconstruction"] = self.mean_scores(documents, reconstructed)
        return metrics

    def mean_scores(self, references: Sequence[str], proposed: Sequence[str]) -> dict[str, float]:
        """Return mean F-measures of texts against references, pair by pair; 0 where one of the two is empty."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer, sums = RougeScorer(list(KINDS), use_stemmer=self.stem), dict.fromkeys(KINDS, 0.0)
        for reference, text in zip(references, proposed, strict=True):
            for kind, score in scorer.score(reference, text).items():
                sums[kind] += float(score.fmeasure)
        return {kind: total / max(1, len(references)) for kind, total in sums.items()}
