"""Word similarity: rank correlation of cosines with human judgments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cosine_similarity

from reprkit import Evaluator
from reprkit.errors import DataError
from reprkit_text.word_tests import find_file, read_pairs
from reprkit_text.word_vectors import WordVectors, folded_index, word_vectors

if TYPE_CHECKING:
    from reprkit import Dataset, Model


class WordSimilarity(Evaluator):
    """Spearman's rank correlation between the cosines of word vectors and the scores that people gave to pairs of words.

    The vectors are those of ``reprkit_text.word_vectors``.  Pairs with a word that has no vector are left out.  Metrics:
    ``spearman``; ``pairs``, how many were measured; ``unknown``, how many were left out.

    WordSim-353 (Finkelstein et al. 2002) mixes similarity and relatedness; SimLex-999 (Hill et al. 2015) is similarity alone.

    Args:
        pairs: "wordsim353" or "simlex999", of the test data of an installed gensim; or a file with two words and a score a line,
            separated by tabs.
        factor: the factor; None is the only one.

    Raises:
        DataError: no such file, a damaged one, or fewer than two pairs whose words are known.
    """

    def __init__(self, pairs: str = "wordsim353", *, factor: str | None = None) -> None:
        super().__init__()
        self.pairs, self.factor = pairs, factor

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above; ``data`` is not read, the words are those of the model's vocabulary.

        Raises:
            BuildError: a model without a vocabulary of words, or without that factor.
        """
        return similarity_correlation(word_vectors(model, self.factor), self.pairs)


def similarity_correlation(found: WordVectors, pairs: str = "wordsim353") -> dict[str, Any]:
    """Return the metrics of ``WordSimilarity`` of any word vectors.

    Raises:
        DataError: no such file, a damaged one, or fewer than two pairs whose words are known.
    """
    from scipy.stats import spearmanr

    judged = read_pairs(find_file(pairs))
    index = folded_index(found.words)
    known = [(index[a], index[b], score) for a, b, score in judged if a in index and b in index]
    if len(known) < 2:
        raise DataError(
            f"word-similarity: of {len(judged)} pairs of {pairs} the vocabulary has both words of {len(known)}; "
            "at least 2 are needed: train on more text, or lower min_count="
        )
    first, second, scores = zip(*known, strict=True)
    cosines = cosine_similarity(found.vectors[list(first)], found.vectors[list(second)])
    return {
        "spearman": float(spearmanr(cosines.double().numpy(), scores).statistic),
        "pairs": len(known),
        "unknown": len(judged) - len(known),
    }
