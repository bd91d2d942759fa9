"""Consensus of parsers, against all trees of short sentences."""

import pytest
import torch
from brute_force import chart_of, trees
from reprkit_structure.evaluators.consensus import consensus_chart

from reprkit.errors import BuildError


def test_equals_the_best_of_all_trees():
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([6, 5, 3, 1])
    every = [trees(0, length - 1) for length in lengths.tolist()]
    chosen = [
        [options[int(torch.randint(len(options), (), generator=draw))] for options in every] for _ in range(3)
    ]
    charts = [torch.stack([chart_of(tree, 6) for tree in row]) for row in chosen]
    found = consensus_chart(charts, lengths)
    for place, options in enumerate(every):
        best = max(sum(len(option & row[place]) for row in chosen) for option in options)
        own = frozenset(map(tuple, found[place].nonzero().tolist()))
        assert own in options
        assert sum(len(own & row[place]) for row in chosen) == best


def test_of_one_parser_is_its_own_tree():
    tree = trees(0, 4)[3]
    chart = chart_of(tree, 5)[None]
    assert torch.equal(consensus_chart([chart], torch.tensor([5])), chart)
    with pytest.raises(BuildError, match="one or more"):
        consensus_chart([], torch.tensor([5]))
