import pytest
import torch
from brute_force import chart_of, trees
from reprkit_structure.layers.brackets import BracketScore, best_binary_chart
from reprkit_structure.layers.branching import BASELINES, baseline_chart
from reprkit_structure.layers.charts import (
    chart_of_parents,
    chart_of_reduces,
    parents_of,
    post_order,
    reduces_of,
)

from reprkit.errors import PartArgumentError
from reprkit.layers.trees import check_tree, is_inner, parents_of_actions, right_branching, spans


def every_tree(longest=6):
    charts = [
        (chart_of(tree, longest), length) for length in range(1, longest + 1) for tree in trees(0, length - 1)
    ]
    return torch.stack([chart for chart, _ in charts]), torch.tensor([length for _, length in charts])


def test_conversions_of_every_tree_and_back():
    charts, lengths = every_tree()
    parents, (ends, valid) = parents_of(charts), post_order(charts)
    assert torch.equal(valid.sum(1), 2 * lengths - 1)
    check_tree(parents, valid, arity=2)
    begin, until = spans(parents).unbind(-1)
    assert torch.equal(begin[valid], ends[..., 0][valid])
    assert torch.equal(until[valid] - 1, ends[..., 1][valid])
    assert torch.equal(chart_of_parents(parents, valid), charts)
    mask = torch.arange(6) < lengths[:, None]
    assert torch.equal(chart_of_reduces(reduces_of(charts), mask), charts)
    assert torch.equal(parents_of_actions(is_inner(parents), valid), parents)


def test_reductions_that_build_no_tree_are_refused():
    for reduces in ([[0, 0, 0]], [[1, 0, 1]], [[0, 2, 0]]):
        with pytest.raises(PartArgumentError, match="no binary trees"):
            chart_of_reduces(torch.tensor(reduces))


def test_baselines():
    lengths = torch.tensor([5, 3, 1])
    mask = torch.arange(9) < 2 * lengths[:, None] - 1
    assert torch.equal(parents_of(baseline_chart("right", lengths)), right_branching(mask))
    assert reduces_of(baseline_chart("left", lengths)).tolist() == [[0, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0] * 5]
    assert reduces_of(baseline_chart("balanced", lengths)).tolist()[0] == [0, 1, 1, 0, 2]
    for name in BASELINES:
        check_tree(parents_of(baseline_chart(name, lengths, seed=1)), mask, arity=2)
    assert torch.equal(baseline_chart("random", lengths, seed=1), baseline_chart("random", lengths, seed=1))


def test_brackets_are_counted_by_the_rule():
    def chart(*nodes):
        return chart_of(nodes, 5)[None]

    score = BracketScore()
    # (0 4) is the sentence and (1 1) a word: neither counts. Common: (0 1).
    score.add(chart((0, 4), (0, 1), (0, 2), (1, 1)), chart((0, 4), (0, 1), (3, 4), (2, 4)), torch.tensor([5]))
    found = score.metrics()
    assert found["precision"] == 1 / 2
    assert found["recall"] == 1 / 3
    assert found["f1"] == pytest.approx(2 / 5)
    assert found["sentence_f1"] == pytest.approx(2 / 5, abs=1e-6)
    # Without gold brackets recall is 1, and precision too if nothing is predicted.
    score.add(chart((0, 1)), chart((0, 1)), torch.tensor([2]))
    assert score.metrics()["sentence_f1"] == pytest.approx((2 / 5 + 1) / 2, abs=1e-6)
    score.add(chart((0, 2), (0, 1)), chart((0, 2)), torch.tensor([3]))
    assert score.metrics()["sentence_f1"] == pytest.approx((2 / 5 + 1 + 0) / 3, abs=1e-6)
    assert score.metrics()["f1"] == pytest.approx(2 * 1 / (3 + 3))


def test_the_best_binary_tree_has_most_gold_brackets():
    torch.manual_seed(0)
    charts, lengths = every_tree()
    charts, lengths = charts[lengths == 6], lengths[lengths == 6]
    gold = torch.triu(torch.rand(20, 6, 6) < 0.4)
    best = best_binary_chart(gold, torch.full((20,), 6))
    for row in range(20):
        overlap = (charts & gold[row]).sum((1, 2))
        assert int((best[row] & gold[row]).sum()) == int(overlap.max())
