"""The program of a shift-reduce generator: which node each token of a tree is made of, and what lies below it on the stack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit import Features
from reprkit.layers.trees import children, first_descendants, is_inner
from reprkit_structure.layers.charts import chart_of_parents, chart_of_reduces, parents_of, reduces_of


@dataclass(frozen=True)
class Program:
    """Binary trees over n words as 2n - 1 tokens in post-order; all rows have as many words.

    Attributes:
        reduces: how many phrases end with each word (b n).
        is_phrase: which tokens join two nodes; the others are the words, in order (b t).
        left: of a phrase, the token of its left part; the right one is the token before it (b t).
        below: the token below on the stack, -1 at its bottom (b t).
        place: the token of each word (b n).
        words: words of each row that the tree is about; further ones were added (b).
    """

    reduces: Int[Tensor, "b n"]
    is_phrase: Bool[Tensor, "b t"]
    left: Int[Tensor, "b t"]
    below: Int[Tensor, "b t"]
    place: Int[Tensor, "b n"]
    words: Int[Tensor, " b"]

    def choices(self) -> Bool[Tensor, "b t"]:
        """Return before which tokens both actions are possible: two nodes on the stack, and a word left to shift.

        After a row's last own word all actions are reductions, and before two nodes are there all are shifts.
        """
        step = torch.where(self.is_phrase, -1, 1)
        depth = step.cumsum(1) - step
        shifted = (~self.is_phrase).long().cumsum(1) - (~self.is_phrase).long()
        return (depth >= 2) & (shifted < self.words[:, None])


def program_of(features: Features | None, size: int, count: int, device: torch.device) -> Program:
    """Return the program of the trees of features over ``count`` words; right-branching without trees.

    A tree over fewer words continues to the right: its last word becomes the first of a right-branching phrase.  Of a tree over
    more words the first ``count`` are taken: phrases end at the last of them.
    """
    reduces = torch.zeros(size, count, dtype=torch.int64, device=device)
    words = torch.full((size,), count, dtype=torch.int64, device=device)
    if features is not None and features.parents is not None:
        own = reduces_of(chart_of_parents(features.parents, features.mask))
        leaves = _leaves(features.parents, features.mask)
        words = leaves.clamp(max=count)
        kept = min(own.shape[1], count)
        inside = torch.arange(kept, device=device) < words[:, None] - 1
        reduces[:, :kept] = own[:, :kept].where(inside, torch.zeros_like(own[:, :kept]))
    reduces[:, -1] = count - 1 - reduces[:, :-1].sum(1)
    parents = parents_of(chart_of_reduces(reduces))
    place = torch.arange(count, device=device) + reduces.cumsum(1) - reduces
    is_phrase = torch.ones_like(parents, dtype=torch.bool).scatter(1, place, False)
    return Program(
        reduces, is_phrase, children(parents, 1)[..., 0], first_descendants(parents) - 1, place, words
    )


def _leaves(parents: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None) -> Int[Tensor, " b"]:
    leaves = ~is_inner(parents)
    return (leaves if mask is None else leaves & mask).sum(1)
