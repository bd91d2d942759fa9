"""Continuous: the identity, and its regularizers compared with plain implementations."""

import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from reprkit.data.padding import length_mask
from reprkit.errors import PartArgumentError
from reprkit.latents.continuous import Continuous
from reprkit.testing.pool import together
from reprkit.types import Features
from reprkit.utils import collectives


def features(b=5, n=3, dim=4, seed=0, mask=None):
    return Features(x=torch.randn(b, n, dim, generator=torch.Generator().manual_seed(seed)), mask=mask)


MASK = length_mask(torch.tensor([3, 1, 2, 3, 0]), 3)


# ------------------------------------------------------------------------ the reference


@pytest.mark.parametrize("training", [True, False])
def test_by_default_it_is_the_identity_and_costs_nothing(training):
    given = features(mask=MASK)
    code = Continuous(4).train(training)(given)
    assert torch.equal(code.z, given.x)
    assert code.mask is given.mask
    assert (code.mean, code.indices, code.bits, code.losses, code.metrics) == (None, None, None, {}, {})


@pytest.mark.parametrize(
    ("name", "function"), [("relu", torch.relu), ("sigmoid", torch.sigmoid), ("tanh", torch.tanh)]
)
def test_activations(name, function):
    given = features()
    assert torch.equal(Continuous(4, activation=name)(given).z, function(given.x))


@pytest.mark.parametrize("mask", [None, MASK])
def test_l1_is_the_sum_over_tokens_and_dimensions_and_the_mean_over_examples(mask):
    given = features(mask=mask)
    code = Continuous(4, l1=0.01, activation="relu")(given)
    valid = torch.ones(5, 3) if mask is None else mask.float()
    expected = (given.x.clamp(min=0) * valid[..., None]).sum((1, 2)).mean()
    torch.testing.assert_close(code.losses["l1"], expected)
    assert Continuous(4, l1=0.01).weights["l1"] == 0.01


def test_sparsity_of_vectors_matches_ng():
    given = features(b=50, n=1)
    latent = Continuous(4, sparsity=3.0, target=0.1).train()
    code = latent(given)
    assert torch.equal(code.z, given.x.sigmoid()), "the units are logistic"
    activity = given.x.sigmoid().mean((0, 1))
    expected = kl_divergence(Bernoulli(torch.full((4,), 0.1)), Bernoulli(activity)).sum()
    torch.testing.assert_close(code.losses["sparsity"], expected)
    assert latent.weights["sparsity"] == 3.0


def test_sparsity_of_sequences_counts_once_a_token():
    given = features(mask=MASK)
    code = Continuous(4, sparsity=1.0, target=0.1).train()(given)
    activity = given.x.sigmoid()[MASK].mean(0)
    expected = kl_divergence(Bernoulli(torch.full((4,), 0.1)), Bernoulli(activity)).sum() * 9 / 5
    torch.testing.assert_close(code.losses["sparsity"], expected)


def test_the_sparsity_loss_reaches_its_target():
    x = torch.zeros(64, 1, 6).normal_(generator=torch.Generator().manual_seed(0)).requires_grad_()
    latent = Continuous(6, sparsity=1.0, target=0.05)
    optimizer = torch.optim.Adam([x], lr=0.1)
    for _ in range(200):
        loss = latent(Features(x=x)).losses["sparsity"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(x.sigmoid().mean((0, 1)), torch.full((6,), 0.05), atol=5e-3, rtol=0)


@pytest.mark.parametrize("value", [-1e4, 1e4])
def test_sparsity_stays_finite_at_dead_and_saturated_units(value):
    x = torch.full((3, 1, 2), value, requires_grad=True)
    loss = Continuous(2, sparsity=1.0)(Features(x=x)).losses["sparsity"]
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


# ------------------------------------------------------------------------ dropout


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    given = Features(x=torch.ones(400, 5, 20))
    code = Continuous(20, dropout=0.3).train()(given)
    assert sorted(code.z.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert (code.z == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert code.z.mean() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(code.mean, given.x), "what evaluation would give"
    quiet = Continuous(20, dropout=0.3).eval()(given)
    assert torch.equal(quiet.z, given.x)
    assert quiet.mean is None


def test_dropout_comes_after_the_losses():
    given = features()
    kept, dropped = Continuous(4, l1=1.0), Continuous(4, l1=1.0, dropout=0.5)
    assert torch.equal(kept(given).losses["l1"], dropped(given).losses["l1"])


# ------------------------------------------------------------------------ robustness

EVERYTHING = {"activation": "sigmoid", "dropout": 0.2, "l1": 0.1, "sparsity": 0.5}


@pytest.mark.parametrize("training", [True, False])
def test_padding_has_no_effect(training):
    latent = Continuous(4, **EVERYTHING).train(training)
    results = []
    for filler in (0.0, 1e3, float("nan")):
        x = features().x.masked_fill(~MASK[..., None], filler).requires_grad_()
        torch.manual_seed(0)
        code = latent(Features(x=x, mask=MASK))
        (code.z[MASK].sum() + sum(code.losses.values())).backward()
        assert (x.grad[MASK] != 0).any()
        results.append((code.z[MASK], *code.losses.values(), x.grad[MASK]))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)
    cut, whole = features().x[1:3], MASK[1:3]
    shorter = latent(Features(x=cut[:, :2], mask=whole[:, :2]))
    torch.testing.assert_close(shorter.losses, latent(Features(x=cut, mask=whole)).losses)


def test_without_valid_tokens_results_are_finite():
    code = Continuous(4, l1=1.0, sparsity=1.0)(features(b=1, mask=torch.zeros(1, 3, dtype=torch.bool)))
    assert (float(code.losses["l1"]), float(code.losses["sparsity"])) == (0.0, 0.0)


@pytest.mark.parametrize("dim", [1, 3, 7])
def test_it_works_in_the_precision_of_its_features(dim):
    latent = Continuous(dim, **EVERYTHING).train()
    assert latent.precision == "any"
    given = Features(x=features(b=2, n=1, dim=dim).x.bfloat16())
    code = latent(given)
    assert code.z.dtype == code.mean.dtype == torch.bfloat16
    assert all(loss.dtype == torch.float32 for loss in code.losses.values())


def test_dropout_is_exact_in_bf16():
    torch.manual_seed(0)
    code = Continuous(64, dropout=0.001).train()(Features(x=torch.ones(500, 10, 64).bfloat16()))
    assert (code.z == 0).float().mean() == pytest.approx(
        0.001, rel=0.2
    )  # bf16 noise would know only 1/256ths


def test_it_has_neither_indices_nor_a_prior():
    latent = Continuous(2)
    assert latent.vocab is None
    assert not latent.has_prior
    with pytest.raises(PartArgumentError, match="no prior"):
        latent.prior((1, 1))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dim": -3}, "dim=-3 must be an integer"),
        ({"dropout": 1.0}, "dropout=1.0 must be a number from 0 to below 1"),
        ({"dropout": "0.1"}, "dropout='0.1' must be a number"),
        ({"l1": -1.0}, "l1=-1.0 must be a number of at least 0"),
        ({"sparsity": float("nan")}, "sparsity=nan must be a number"),
        ({"target": 0}, "target=0 must be a number above 0 and below 1"),
        ({"target": 1.0}, "target"),
        ({"activation": "gelu"}, "activation='gelu' must be 'identity', 'relu', 'sigmoid', 'tanh' or None"),
        ({"sparsity": 1.0, "activation": "relu"}, "needs activation='sigmoid', not 'relu'"),
    ],
)
def test_arguments_are_checked(options, says):
    with pytest.raises(PartArgumentError, match=says):
        Continuous(**options)


# ------------------------------------------------------------------------ ranks


def a_step(rank):
    """Code, losses and gradient of one training step on this rank's rows of a joined batch of eight."""
    size = collectives.world_size()
    rows = slice(rank * 8 // size, (rank + 1) * 8 // size)
    given = features(b=8, mask=length_mask(torch.tensor([3, 1, 2, 3, 1, 1, 2, 3]), 3))
    x = given.x[rows].clone().requires_grad_()
    torch.manual_seed(5)
    latent = Continuous(4, **EVERYTHING).train()
    code = latent(Features(x=x, mask=given.mask[rows]))
    total = sum(latent.weights[k] * v for k, v in code.losses.items()) + code.z.square().sum() / len(x)
    total.backward()
    losses = torch.stack([total.detach(), *(v.detach() for v in code.losses.values())])
    return (
        collectives.gather(code.z),
        collectives.sum_over_ranks(losses) / size,
        collectives.gather(x.grad) / size,
    )


@pytest.mark.ranks
def test_two_ranks_equal_one_process():
    torch.testing.assert_close(together(2, a_step)[1], a_step(0))


def test_warmup_lets_the_penalties_grow():
    latent, plain = Continuous(4, l1=1.0, warmup=4), Continuous(4, l1=1.0)
    full = plain(features()).losses["l1"]
    shares = []
    for _ in range(6):
        shares.append(float(latent(features()).losses["l1"] / full))
        latent.update()
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])
    again = Continuous(4, l1=1.0, warmup=4)
    again.load_state_dict(latent.state_dict())
    assert int(again.step) == 6
    assert "step" not in plain.state_dict()


def test_warmup_needs_a_penalty():
    with pytest.raises(PartArgumentError, match="warmup=4 is for l1 or sparsity"):
        Continuous(4, warmup=4)
