"""ROUGE: how many words and word pairs a summary shares with the one that a person wrote."""

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
    """ROUGE-1, ROUGE-2 and ROUGE-L of what a model writes, F-measures in [0, 1]: ``summary.rouge1`` and so on, and ``n``.

    Against the human summaries of a valid or test part (data sets documents, debian): ``summary``, the model's, where its latent is
    of words; and what needs no model, on the same documents, whole: ``lead-8``, ``lead-10`` and ``lead-sentence``, the first
    words or sentence; ``random-words`` (10, in their order) and ``random-sentence``.  Against the document as the model reads it:
    ``reconstruction``, what a decoder of symbols gives back (a causal one reads the document as its teacher).

    Package rouge-score (Lin 2004, "ROUGE: a package for automatic evaluation of summaries"), small letters and digits only.

    Args:
        stem: take the ends off words (Porter) before they are compared.
        limit: of so many documents only, the first ones; None: all.
        seed: of the random words and sentences.
    """

    def __init__(self, *, stem: bool = True, limit: Count | None = None, seed: Seed = 0) -> None:
        super().__init__()
        self.stem, self.limit, self.seed = stem, limit, seed

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """The table above.

        Raises:
            BuildError: a model with neither a latent of words nor a decoder of symbols.
            DataError: a latent of words, no decoder, and data without human summaries; or a part whose pairs may not be seen.
        """
        words = decoded_text.model_vocabulary(model, "rouge")
        if self.limit is not None and self.limit < len(data):
            data = data.subset(range(self.limit))
        found: dict[str, Any] = {}
        if hasattr(data, "reference_pairs"):
            rows, pairs = data.reference_pairs()
            draw = random.Random(self.seed)
            others = [baseline_summaries(document, draw) for document, _ in pairs]
            proposed = {name: [each[name] for each in others] for name in others[0]} if others else {}
            if decoded_text.words_factor(model) is not None:
                proposed = {
                    "summary": decoded_text.to_text(
                        decoded_text.write_summaries(model, data.subset(rows)), words
                    )
                } | proposed
            human = [summary for _, summary in pairs]
            found = {name: self.mean_scores(human, said) for name, said in proposed.items()} | {
                "n": len(pairs)
            }
        elif model.decoder is None:
            raise DataError(
                f"rouge compares with human summaries, and {data.name} has none beside its documents: use the valid or test "
                "part of data set documents or debian"
            )
        if model.decoder is not None:
            back = decoded_text.to_text(decoded_text.decode_outputs(model, data), words)
            document = decoded_text.to_text(decoded_text.field_symbols(data, model.output), words)
            found["reconstruction"] = self.mean_scores(document, back)
        return found

    def mean_scores(self, references: Sequence[str], proposed: Sequence[str]) -> dict[str, float]:
        """The mean F-measures of as many texts as there are references; 0 where one of the two is empty."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer, sums = RougeScorer(list(KINDS), use_stemmer=self.stem), dict.fromkeys(KINDS, 0.0)
        for reference, each in zip(references, proposed, strict=True):
            for kind, score in scorer.score(reference, each).items():
                sums[kind] += float(score.fmeasure)
        return {kind: total / max(1, len(references)) for kind, total in sums.items()}
