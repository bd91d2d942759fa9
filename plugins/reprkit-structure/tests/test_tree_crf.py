import math

import pytest
import torch
from brute_force import chart_of, tree_scores, trees
from reprkit_structure.layers.tree_crf import TreeCRF, gumbel_noise, log_tree_count
from scipy.stats import chisquare

from reprkit.errors import PartArgumentError

LENGTHS = [6, 5, 4, 3, 2, 1]


@pytest.fixture
def crf():
    torch.manual_seed(0)
    scores = torch.randn(len(LENGTHS), 6, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(6) < torch.tensor(LENGTHS)[:, None]
    return TreeCRF(scores, mask), scores


def test_equal_to_enumeration(crf):
    crf, scores = crf
    for row, length in enumerate(LENGTHS):
        each = tree_scores(scores[row].detach(), length)
        p = each.softmax(0)
        expected = sum(
            chance * chart_of(tree, 6).double() for chance, tree in zip(p, trees(0, length - 1), strict=True)
        )
        torch.testing.assert_close(crf.log_partition[row], each.logsumexp(0))
        torch.testing.assert_close(crf.marginals[row], expected)
        torch.testing.assert_close(crf.entropy[row], -(p * p.log()).sum())
        best = trees(0, length - 1)[int(each.argmax())]
        assert torch.equal(crf.best()[row], chart_of(best, 6))
    assert [len(trees(0, length - 1)) for length in LENGTHS] == [
        round(value) for value in log_tree_count(torch.tensor(LENGTHS)).exp().tolist()
    ]
    torch.testing.assert_close(
        crf.kl_from_uniform, (log_tree_count(torch.tensor(LENGTHS)) - crf.entropy).double()
    )


def test_gradients_are_those_of_enumeration(crf):
    crf, scores = crf
    weight = torch.randn(6, 6, dtype=torch.float64)
    total = (crf.entropy + 0.3 * (crf.marginals * weight).sum((1, 2))).sum()
    (gradient,) = torch.autograd.grad(total, scores)
    expected = torch.zeros(())
    for row, length in enumerate(LENGTHS):
        p = tree_scores(scores[row], length).softmax(0)
        worth = torch.stack([weight[chart_of(tree, 6)].sum() for tree in trees(0, length - 1)])
        expected = expected - (p * p.log()).sum() + 0.3 * (p * worth).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, scores)[0])


def test_samples_follow_the_distribution():
    torch.manual_seed(1)
    scores = torch.randn(1, 5, 5)
    crf = TreeCRF(scores.expand(20_000, -1, -1), (torch.arange(5) < 4)[None].expand(20_000, -1))
    drawn = crf.sample(gumbel_noise(torch.Generator().manual_seed(2)))
    p = tree_scores(scores[0], 4).softmax(0)
    counts = [int((drawn == chart_of(tree, 5)).all((1, 2)).sum()) for tree in trees(0, 3)]
    assert sum(counts) == 20_000
    assert chisquare(counts, (20_000 * p.double() / p.double().sum()).tolist()).pvalue > 1e-3
    log_p = torch.stack(
        [crf.log_prob(chart_of(tree, 5)[None].expand(20_000, -1, -1))[0] for tree in trees(0, 3)]
    )
    torch.testing.assert_close(log_p, p.log())


def test_gradients_do_not_depend_on_what_was_asked_first(crf):
    crf, scores = crf
    with torch.no_grad():
        chart = crf.sample(gumbel_noise())
        for value in (crf.entropy, crf.marginals, crf.log_partition):
            assert value.requires_grad
    (after,) = torch.autograd.grad(crf.log_prob(chart).sum(), scores)
    fresh = TreeCRF(scores, torch.arange(6) < crf.lengths[:, None])
    (before,) = torch.autograd.grad(fresh.log_prob(chart).sum(), scores)
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(before, (chart.double() - fresh.marginals).detach())


def test_masked_scores_have_no_effect():
    scores = torch.randn(1, 5, 5)
    mask = torch.tensor([[True, True, True, False, False]])
    other = scores.clone()
    other[:, 3:] = other[:, :, 3:] = float("nan")
    one, two = TreeCRF(scores, mask), TreeCRF(other, mask)
    assert torch.equal(one.log_partition, two.log_partition)
    assert torch.equal(one.best(), two.best())


@pytest.mark.filterwarnings("ignore:.*does not define `arg_constraints`")
def test_equal_to_torch_struct():
    torch_struct = pytest.importorskip("torch_struct")
    torch.manual_seed(3)
    scores, lengths = torch.randn(3, 12, 12), torch.tensor([12, 9, 2])
    crf = TreeCRF(scores, torch.arange(12) < lengths[:, None])
    other = torch_struct.TreeCRF(scores.unsqueeze(-1), lengths=lengths)
    torch.testing.assert_close(crf.log_partition, other.partition)
    torch.testing.assert_close(crf.marginals, other.marginals.squeeze(-1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(crf.entropy, other.entropy, atol=1e-4, rtol=1e-4)
    assert torch.equal(crf.best().float(), other.argmax.squeeze(-1))


def test_scores_of_any_size_are_finite():
    for size in (1e3, -1e3):
        crf = TreeCRF(torch.full((1, 30, 30), size, requires_grad=True))
        assert math.isclose(crf.entropy.item(), log_tree_count(torch.tensor([30])).item(), rel_tol=1e-4)
        assert torch.isfinite(crf.marginals).all()


def test_an_example_without_words_is_refused():
    with pytest.raises(PartArgumentError, match="at least one word"):
        TreeCRF(torch.zeros(2, 3, 3), torch.tensor([[True, True, True], [False, False, False]]))


@pytest.mark.parametrize("count", [1, 2])
def test_a_single_tree_has_no_entropy_and_a_gradient_of_zeros(count):
    scores = torch.randn(3, count, count, requires_grad=True)
    entropy = TreeCRF(scores).entropy
    entropy.sum().backward()
    assert torch.equal(entropy, torch.zeros(3))
    assert torch.equal(scores.grad, torch.zeros_like(scores))
