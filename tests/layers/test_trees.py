"""Trees in post-order against recursion over nested tuples."""

import itertools
import random

import pytest
import torch

from reprkit.errors import PartArgumentError
from reprkit.layers.trees import (
    check_tree,
    children,
    first_descendants,
    is_inner,
    parents_of_actions,
    right_branching,
    spans,
    tree_of,
)
from reprkit.types import Features


def random_tree(leaves, draw, arity=2):
    """A nested tuple of 2 to ``arity`` children a node; a leaf is None."""
    if leaves == 1:
        return None
    parts = draw.randint(2, min(arity, leaves))
    cuts = [0, *sorted(draw.sample(range(1, leaves), parts - 1)), leaves]
    return tuple(random_tree(end - start, draw, arity) for start, end in itertools.pairwise(cuts))


def walk(tree):
    """Parents, children and leaves of each node in post-order, by recursion."""
    nodes, leaves = [], [0]

    def visit(node):
        first, below = leaves[0], [visit(child) for child in node or ()]
        if node is None:
            leaves[0] += 1
        nodes.append({"children": below, "span": [first, leaves[0]], "parent": -1})
        for child in below:
            nodes[child]["parent"] = len(nodes) - 1
        return len(nodes) - 1

    visit(tree)
    return nodes


def padded(rows, fill):
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])


@pytest.fixture(params=[2, 4])
def forest(request):
    draw = random.Random(request.param)
    walks = [walk(random_tree(leaves, draw, request.param)) for leaves in (1, 2, 3, 5, 9, 9, 9, 14)]
    parents = padded([[node["parent"] for node in nodes] for nodes in walks], -1)
    return walks, parents, padded([[True] * len(nodes) for nodes in walks], False), request.param


def test_children_spans_and_actions_equal_recursion(forest):
    walks, parents, mask, arity = forest
    found, ranges, inner = children(parents, arity), spans(parents), is_inner(parents)
    for row, nodes in enumerate(walks):
        for place, node in enumerate(nodes):
            expected = node["children"] + [-1] * (arity - len(node["children"]))
            assert found[row, place].tolist() == expected
            assert ranges[row, place].tolist() == node["span"]
            assert bool(inner[row, place]) == bool(node["children"])
    assert (found[~mask] == -1).all()
    check_tree(parents, mask, arity)


def test_first_descendants_start_the_subtree(forest):
    walks, parents, _, _ = forest
    first = first_descendants(parents)
    for row, nodes in enumerate(walks):
        for place, node in enumerate(nodes):
            low = place
            while nodes[low]["children"]:
                low = nodes[low]["children"][0]
            assert first[row, place] == low, node


def test_actions_build_the_tree():
    draw = random.Random(0)
    walks = [walk(random_tree(leaves, draw)) for leaves in (1, 4, 7, 12)]
    parents = padded([[node["parent"] for node in nodes] for nodes in walks], -1)
    mask = padded([[True] * len(nodes) for nodes in walks], False)
    assert torch.equal(parents_of_actions(is_inner(parents), mask), parents)


@pytest.mark.parametrize("actions", [[0, 1, 0], [0, 0, 0], [0, 0, 1, 1], [1, 0, 0]])
def test_actions_that_build_no_tree_are_refused(actions):
    with pytest.raises(PartArgumentError, match="build no binary trees"):
        parents_of_actions(torch.tensor([actions]).bool())


def test_right_branching_trees_shift_all_words_first():
    mask = torch.arange(9) < torch.arange(1, 10)[:, None]
    parents = right_branching(mask)
    check_tree(parents, mask, arity=2)
    for count in range(1, 10):
        inner = is_inner(parents)[count - 1, :count]
        leaves = (count + 1) // 2
        assert not inner[:leaves].any()
        assert inner[leaves:].all()
    assert parents[4, :5].tolist() == [4, 3, 3, 4, -1]
    ranges = spans(parents)[6, 4:7].tolist()
    assert ranges == [[2, 4], [1, 4], [0, 4]], "each phrase reaches to the last word"
    assert torch.equal(tree_of(Features(x=torch.zeros(9, 9, 1), mask=mask)), parents)
    own = torch.tensor([[2, 2, -1]])
    assert tree_of(Features(x=torch.zeros(1, 3, 1), parents=own)) is own
    assert torch.equal(tree_of(Features(x=torch.zeros(2, 5, 1))), parents[4, :5].expand(2, -1))


@pytest.mark.parametrize(
    ("parents", "problem"),
    [
        ([2, 2, 4, 4, 4], "is the root"),
        ([2, 2, -1, 4, -1], "has no parent"),
        ([2, 0, 4, 4, -1], "does not come after it"),
        ([2, 3, 4, 4, -1], "without being below"),
        ([4, 4, 4, 4, -1], "more than 2 children"),
        ([2, 2, 7, 4, -1], "not a valid token"),
    ],
)
def test_faults_are_named(parents, problem):
    parents = torch.tensor([[2, 2, 4, 4, -1], parents])
    with pytest.raises(PartArgumentError, match=f"example 1 .*{problem}"):
        check_tree(parents, arity=2)


def test_padding_has_no_parent():
    mask = torch.tensor([[True, True, True, False]])
    check_tree(torch.tensor([[2, 2, -1, -1]]), mask)
    with pytest.raises(PartArgumentError, match="padded token has a parent"):
        check_tree(torch.tensor([[2, 2, -1, 3]]), mask)
