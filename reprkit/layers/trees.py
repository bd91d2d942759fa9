"""Trees over tokens: each token's parent in post-order, from which children, spans and shift-reduce actions follow.

``parents`` (b n) holds the index of each token's parent; tokens are in post-order, so a parent comes after all its descendants,
and these are the tokens just before it.  -1 stands at the root, the last valid token, and at padding.  The leaves are the words,
in order: a binary tree over m words has 2m - 1 tokens.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit.errors import PartArgumentError
from reprkit.types import Features


def tree_of(features: Features) -> Int[Tensor, "b n"]:
    """Return the tree of features: their ``parents``, or the right-branching tree of their valid tokens where they have none."""
    if features.parents is not None:
        return features.parents
    mask = features.mask
    if mask is None:
        mask = torch.ones(features.x.shape[:2], dtype=torch.bool, device=features.x.device)
    return right_branching(mask)


def right_branching(mask: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Return the parents of right-branching binary trees over the valid tokens, which are the first ones of each example.

    An even number of tokens has one more than a binary tree: a root above it, with one child.
    """
    index = torch.arange(mask.shape[1], device=mask.device)
    count = mask.sum(1, keepdim=True)
    leaves = (count + 1) // 2
    leaf = torch.maximum(leaves, 2 * leaves - 2 - index)
    parents = torch.where(index < leaves, leaf, index + 1)
    return torch.where(parents < count, parents, -1)


def is_inner(parents: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Return which tokens have children: the actions of a shift-reduce parser, True for reduce and False for shift (or padding)."""
    slot = torch.where(parents < 0, parents.shape[1], parents)
    found = torch.zeros(parents.shape[0], parents.shape[1] + 1, dtype=torch.bool, device=parents.device)
    return found.scatter(1, slot, True)[:, :-1]


def children(parents: Int[Tensor, "b n"], arity: int = 2) -> Int[Tensor, "b n k"]:
    """Return the first ``arity`` children of each token, from left to right; -1 where there are fewer."""
    rows, count = parents.shape
    slot = torch.where(parents < 0, count, parents)  # roots and padding go to a row of their own
    ordered, order = slot.sort(dim=1, stable=True)
    place = torch.arange(count, device=parents.device).expand(rows, -1)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    rank = place - torch.where(first, place, 0).cummax(1).values
    # Children beyond the arity are written to a further column, which is dropped.
    cell = ordered * (arity + 1) + rank.clamp(max=arity)
    table = torch.full((rows, (count + 1) * (arity + 1)), -1, dtype=torch.int64, device=parents.device)
    return table.scatter(1, cell, order).unflatten(1, (count + 1, arity + 1))[:, :count, :arity]


def first_descendants(parents: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Return the first token of each subtree, which ends with its root; a leaf is its own."""
    index = torch.arange(parents.shape[1], device=parents.device).expand_as(parents)
    left = children(parents, 1)[..., 0]
    first = torch.where(left < 0, index, left)
    for _ in range(max(1, parents.shape[1]).bit_length()):  # the leftmost child of the leftmost child, ...
        first = first.gather(1, first)
    return first


def spans(parents: Int[Tensor, "b n"]) -> Int[Tensor, "b n 2"]:
    """Return the leaves below each token, as a range [begin, end) of their numbers from 0; of no meaning at padding."""
    leaf = (~is_inner(parents)).long()
    until = leaf.cumsum(1)
    begin = (until - leaf).gather(1, first_descendants(parents))
    return torch.stack([begin, until], -1)


def parents_of_actions(
    reduce: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"] | None = None
) -> Int[Tensor, "b n"]:
    """Return the parents of the binary trees that a shift-reduce parser builds: False pushes a leaf, True joins the last two.

    Raises:
        PartArgumentError: a reduction of fewer than two trees, or more than one tree at the end.
    """
    valid = torch.ones_like(reduce) if mask is None else mask
    depth = (torch.where(reduce, -1, 1) * valid).cumsum(1)
    enough = (depth >= 1) | ~valid
    if not bool(enough.all() & (depth[:, -1] == 1).all()):
        raise PartArgumentError(
            "these actions build no binary trees: each reduction needs two trees before it, and one tree must be left"
        )
    rows = torch.arange(len(reduce), device=reduce.device)
    parents = torch.full(reduce.shape, -1, dtype=torch.int64, device=reduce.device)
    stack = torch.zeros_like(parents)
    for step in range(reduce.shape[1]):
        joins, top = reduce[:, step] & valid[:, step], depth[:, step] - 1
        for child in (top, top + 1):  # before this step the two trees to join stand here
            node = stack[rows, child.clamp(0, reduce.shape[1] - 1)]
            parents[rows[joins], node[joins]] = step
        live = rows[valid[:, step]]
        stack[live, top[live]] = step
    return parents


def check_tree(
    parents: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"] | None = None, arity: int | None = None
) -> None:
    """Check that each example's valid tokens are one tree in post-order.

    Args:
        parents: of all tokens.
        mask: the valid tokens; None: all.
        arity: largest number of children; None: any.

    Raises:
        PartArgumentError: they are not; the message says what is wrong and in which example.
    """
    valid = torch.ones_like(parents, dtype=torch.bool) if mask is None else mask
    index = torch.arange(parents.shape[1], device=parents.device)
    last = torch.where(valid, index, -1).max(1, keepdim=True).values
    root = valid & (index == last)
    inner = valid & ~root
    # A token between another one and its parent belongs to that parent's subtree, so its parent is no later.
    between = (index > index[:, None]) & (index < parents.unsqueeze(2)) & inner.unsqueeze(2)
    crossing = between & (parents.unsqueeze(1) > parents.unsqueeze(2))
    below = parents.clamp(min=0)
    faults = {
        "a padded token has a parent: write -1": ~valid & (parents != -1),
        "the last valid token is the root, and its parent must be -1": root & (parents != -1),
        "a token other than the last valid one has no parent, or one that does not come after it": inner
        & (parents <= index),
        "a parent is not a valid token": inner & ((parents > last) | ~valid.gather(1, below.minimum(last))),
        "a token stands between another one and its parent without being below that parent": crossing.any(2),
    }
    if arity is not None:
        faults[f"a token has more than {arity} children"] = (
            children(parents.where(parents < parents.shape[1], -1), arity + 1)[..., arity] >= 0
        )
    for problem, found in faults.items():
        if bool(found.any()):
            example = int(found.any(1).nonzero()[0])
            raise PartArgumentError(f"parents of example {example} are no tree in post-order: {problem}")
