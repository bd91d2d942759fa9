"""Word analogies: a is to b as c is to d."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from reprkit import Evaluator
from reprkit.errors import DataError
from reprkit.registry.constraints import Count
from reprkit_text.word_tests import find_file, read_analogies
from reprkit_text.word_vectors import WordVectors, folded_index, word_vectors

if TYPE_CHECKING:
    from reprkit import Dataset, Model

_BLOCK = 256


class Analogies(Evaluator):
    """Share of analogies whose fourth word is nearest, by cosine, to b - a + c of unit vectors (Mikolov et al. 2013, 1301.3781).

    The three given words are no answers.  Analogies with a word that has no vector are left out.  Metrics: ``accuracy``; one for
    each section, ``capital-common-countries.accuracy``; ``asked`` and ``unknown``, how many were measured and left out.

    Args:
        questions: "questions-words", of the test data of an installed gensim; or a file of sections, ``: name``, with four words a
            line.
        most: use only this many words of the vocabulary, the first ones, which are the most frequent.
        factor: the factor; None is the only one.

    Raises:
        DataError: no such file, a damaged one, or no analogy whose words are known.
    """

    def __init__(
        self, questions: str = "questions-words", *, most: Count = 300_000, factor: str | None = None
    ) -> None:
        super().__init__()
        self.questions, self.most, self.factor = questions, most, factor

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above; ``data`` is not read, the words are those of the model's vocabulary.

        Raises:
            BuildError: a model without a vocabulary of words, or without that factor.
        """
        return analogy_accuracy(word_vectors(model, self.factor), self.questions, self.most)


def analogy_accuracy(
    found: WordVectors, questions: str = "questions-words", most: int = 300_000
) -> dict[str, Any]:
    """Return the metrics of ``Analogies`` of any word vectors.

    Raises:
        DataError: no such file, a damaged one, or no analogy whose words are known.
    """
    index = folded_index(found.words[:most])
    sections = read_analogies(find_file(questions))
    unit = normalize(found.vectors[:most], dim=1)
    metrics, right, asked, total = dict[str, Any](), 0, 0, 0
    for name, each in sections.items():
        total += len(each)
        known = [[index[word] for word in words] for words in each if all(word in index for word in words)]
        if not known:
            continue
        hits = int(_answers(unit, torch.tensor(known)).sum())
        metrics[f"{name}.accuracy"] = hits / len(known)
        right, asked = right + hits, asked + len(known)
    if not asked:
        raise DataError(
            f"analogies: the vocabulary has all words of none of the {total} analogies of {questions}: "
            "train on more text, or lower min_count="
        )
    return {"accuracy": right / asked, **metrics, "asked": asked, "unknown": total - asked}


def _answers(unit: Tensor, known: Tensor) -> Tensor:
    """Whether the fourth word is the nearest (q,), for rows of four words (q 4)."""
    hits = []
    for block in known.split(_BLOCK):
        a, b, c, d = block.unbind(1)
        similarity = (unit[b] - unit[a] + unit[c]) @ unit.T
        similarity.scatter_(1, block[:, :3], -torch.inf)
        hits.append(similarity.argmax(1) == d)
    return torch.cat(hits)
