"""Consensus of several parsers: the trees on which they agree most, which needs no gold trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit.errors import BuildError
from reprkit_structure.evaluators.bracket_f1 import gold_charts, trees_of
from reprkit_structure.layers.brackets import BracketScore
from reprkit_structure.layers.tree_crf import TreeCRF

if TYPE_CHECKING:
    from reprkit import Dataset, Model


def consensus_chart(
    charts: Sequence[Bool[Tensor, "b n n"]], lengths: Int[Tensor, " b"]
) -> Bool[Tensor, "b n n"]:
    """Return for each sentence the binary tree with the most brackets in common with the trees of all charts.

    All binary trees of a sentence have equally many brackets, so it is the tree with the largest mean F1 with the given ones
    (Shayegh et al. 2024, "Ensemble distillation for unsupervised constituency parsing", arXiv 2310.01717: tree averaging).

    Args:
        charts: one or more; True where words i to j are a node.
        lengths: number of words of each sentence.

    Raises:
        BuildError: no charts.
    """
    if not charts:
        raise BuildError("consensus of no parsers: give one or more")
    votes = torch.stack([chart.float() for chart in charts]).sum(0)
    mask = torch.arange(votes.shape[1], device=votes.device) < lengths.to(votes.device)[:, None]
    return TreeCRF(votes, mask).best()


@torch.no_grad()
def consensus_f1(
    models: Sequence[Model], data: Dataset, *, opens: str = "opens", closes: str = "closes"
) -> dict[str, float]:
    """Return ``f1``, ``precision``, ``recall`` and ``sentence_f1`` of the consensus of several models, as bracket-f1 has them.

    Args:
        models: models that find trees, one or more, in evaluation mode.
        data: sentences with gold brackets.
        opens: the field with the number of gold brackets that open before each word.
        closes: the field with the number of those that close after each word.

    Raises:
        BuildError: no models, or one that finds no trees.
    """
    score = BracketScore()
    for batch in data.batches():
        gold, lengths = gold_charts(batch, opens, closes)
        score.add(consensus_chart([trees_of(model, batch).cpu() for model in models], lengths), gold, lengths)
    return score.metrics()
