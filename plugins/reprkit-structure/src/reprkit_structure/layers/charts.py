"""Charts: the spans of a binary tree as a table, and what follows from it: post-order tokens, parents, actions.

A **chart** (b n n) is True at [i, j], i <= j, if the tree has a node over the words i to j, both included.  A binary tree over m
words has 2m - 1 of them, the words themselves among them (i = j).  Rows of fewer words than n have no node beyond them.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit.errors import PartArgumentError


def lengths_of(
    mask: Bool[Tensor, "b n"] | None, size: int, count: int, device: torch.device
) -> Int[Tensor, " b"]:
    """Return the number of words of each example, whose words are the first ones; all ``count`` without a mask.

    Raises:
        PartArgumentError: an example without words.
    """
    if mask is None:
        return torch.full((size,), count, dtype=torch.int64, device=device)
    lengths = mask.sum(1)
    if not bool((lengths > 0).all()):
        raise PartArgumentError(
            "a tree has at least one word, and an example has none (its mask is False everywhere)"
        )
    return lengths


def post_order(chart: Bool[Tensor, "b n n"]) -> tuple[Int[Tensor, "b t 2"], Bool[Tensor, "b t"]]:
    """Return the first and last word of each node in post-order, t = 2n - 1 tokens, and which of these exist.

    Nodes are in the order of their last word; of those with the same last word the narrower comes first.  Charts of several
    roots or of more children than two are ordered, too, but have at most 2n - 1 nodes.
    """
    count = chart.shape[1]
    by_end = chart.transpose(1, 2).flip(2).flatten(1)  # [last word, n - 1 - first word]
    order = (~by_end).to(torch.uint8).argsort(dim=1, stable=True)[:, : 2 * count - 1]
    valid = by_end.gather(1, order)
    ends = torch.stack([count - 1 - order % count, order // count], -1)
    return ends.where(valid.unsqueeze(-1), ends.new_zeros(())), valid


def parents_of(chart: Bool[Tensor, "b n n"]) -> Int[Tensor, "b t"]:
    """Return the parents of the nodes in post-order (b 2n-1); -1 at the root and at padding."""
    ends, valid = post_order(chart)
    begin, place = ends[..., 0], torch.arange(ends.shape[1], device=chart.device)
    # The parent is the first later node that begins no later: later nodes end no earlier.
    above = (begin.unsqueeze(1) <= begin.unsqueeze(2)) & (place > place[:, None]) & valid.unsqueeze(1)
    found = above.to(torch.uint8).max(2)
    return torch.where(found.values.bool() & valid, found.indices, -1)


def reduces_of(chart: Bool[Tensor, "b n n"]) -> Int[Tensor, "b n"]:
    """Return how many nodes of two or more words end with each word: the reductions of a shift-reduce parser after it."""
    return torch.triu(chart, 1).sum(1)


def chart_of_reduces(
    reduces: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"] | None = None
) -> Bool[Tensor, "b n n"]:
    """Return the binary trees in which ``reduces`` nodes end with each word; the inverse of ``reduces_of``.

    Raises:
        PartArgumentError: a reduction without two trees to join, or more than one tree at the end.
    """
    size, count = reduces.shape
    device = reduces.device
    valid = torch.ones(size, count, dtype=torch.bool, device=device) if mask is None else mask
    reduces = reduces.where(valid, reduces.new_zeros(()))
    depth = (valid.long() - reduces).cumsum(1)
    last = lengths_of(mask, size, count, device) - 1
    if not bool((((depth >= 1) | ~valid).all(1) & (depth.gather(1, last[:, None])[:, 0] == 1)).all()):
        raise PartArgumentError(
            "these reductions build no binary trees: each joins the two trees before it, and one tree must be left"
        )
    rows, places = torch.arange(size, device=device), torch.arange(count, device=device)
    chart = torch.zeros(size, count, count, dtype=torch.bool, device=device)
    begins = torch.zeros(
        size, count, dtype=torch.int64, device=device
    )  # first words of the trees on the stack
    for word in range(count):
        top = depth[:, word] - 1 + reduces[:, word]  # where the word is pushed
        begins[rows, top.clamp(0, count - 1)] = word
        inside = (places >= depth[:, word, None] - 1) & (places <= top[:, None]) & valid[:, word, None]
        chart[:, :, word].scatter_(
            1, begins.where(inside, torch.full_like(begins, word)), valid[:, word, None].expand(-1, count)
        )
    return chart


def chart_of_parents(
    parents: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None = None
) -> Bool[Tensor, "b n n"]:
    """Return the chart of trees in post-order; n is the number of leaves of the largest one.  Nodes of one child share its cell."""
    from reprkit.layers.trees import is_inner, spans

    valid = torch.ones_like(parents, dtype=torch.bool) if mask is None else mask
    leaves = (~is_inner(parents) & valid).sum(1)
    count = int(leaves.max()) if leaves.numel() else 0
    begin, until = spans(parents).unbind(-1)
    cell = torch.where(valid, begin * count + until - 1, count * count)
    chart = torch.zeros(len(parents), count * count + 1, dtype=torch.bool, device=parents.device)
    return chart.scatter(1, cell, True)[:, :-1].unflatten(1, (count, count))
