"""Binary: comparison with torch.distributions, and the effect of its options."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from reprkit.data.padding import length_mask
from reprkit.errors import PartArgumentError
from reprkit.latents.binary import SHARPNESS, Binary
from reprkit.testing.pool import together
from reprkit.types import Features
from reprkit.utils import collectives


def features(b=5, n=3, bits=4, seed=0, mask=None):
    x = torch.randn(b, n, bits, generator=torch.Generator().manual_seed(seed)) / 2
    return Features(x=x, mask=mask)


def posterior(x):
    return Bernoulli(logits=SHARPNESS * x)


MASK = length_mask(torch.tensor([3, 1, 2, 3, 0]), 3)
COIN = Bernoulli(torch.tensor(0.5))


# ------------------------------------------------------------------------ the reference


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask", [None, MASK])
def test_kl_and_log_prob_match_torch_distributions(training, mask):
    given = features(mask=mask)
    torch.manual_seed(1)
    code = Binary(4).train(training)(given)
    q = posterior(given.x)
    valid = torch.ones(5, 3) if mask is None else mask.float()
    torch.testing.assert_close(code.losses["kl"], (kl_divergence(q, COIN).sum(-1) * valid).sum(1).mean())
    torch.testing.assert_close(code.log_prob, q.log_prob(code.indices.float()).sum(-1) * valid)
    assert torch.equal(code.z, 2.0 * code.indices - 1)


def test_gradients_of_kl_and_log_prob_match_torch_distributions():
    x = features().x.requires_grad_()
    torch.manual_seed(1)
    code = Binary(4).train()(Features(x=x))
    q = posterior(x)
    expected = kl_divergence(q, COIN).sum() / 5, q.log_prob(code.indices.float()).sum()
    for found, reference in zip((code.losses["kl"], code.log_prob.sum()), expected, strict=True):
        (grad,) = torch.autograd.grad(found, x, retain_graph=True)
        (slope,) = torch.autograd.grad(reference, x, retain_graph=True)
        torch.testing.assert_close(grad, slope, atol=1e-5, rtol=1e-4)


def test_training_samples_with_the_global_generator_and_evaluation_thresholds():
    given, latent = features(), Binary(4)
    torch.manual_seed(7)
    code = latent.train()(given)
    torch.manual_seed(7)
    assert torch.equal(code.indices, (torch.rand(5, 3, 4) < posterior(given.x).probs).long())
    assert torch.equal(code.mean, torch.where(given.x > 0, 1.0, -1.0))
    code = latent.eval()(given)
    assert torch.equal(code.indices, (given.x > 0).long())
    assert code.mean is None
    assert code.indices.dtype == torch.int64


def test_samples_have_the_probabilities_of_the_bits():
    torch.manual_seed(0)
    given = features(b=1, n=1)
    code = Binary(4).train()(Features(x=given.x.expand(20_000, 1, 4)))
    torch.testing.assert_close(code.indices.float().mean(0), posterior(given.x).probs[0], atol=0.015, rtol=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stochastic", [True, False])
def test_the_gradient_is_that_of_the_mean(training, stochastic):
    given = features()
    x = given.x.clone().requires_grad_()
    code = Binary(4, stochastic=stochastic).train(training)(Features(x=x))
    weight = torch.randn(5, 3, 4)
    (grad,) = torch.autograd.grad((code.z * weight).sum(), x, retain_graph=True)
    (expected,) = torch.autograd.grad(((2 * posterior(x).probs - 1) * weight).sum(), x)
    torch.testing.assert_close(grad, expected)
    if code.mean is not None:  # what ``represent`` reads, and a contrastive objective trains
        (grad,) = torch.autograd.grad((code.mean * weight).sum(), x)
        torch.testing.assert_close(grad, expected)


def test_the_values_are_exactly_plus_and_minus_one():
    code = Binary(64).train()(features(b=100, bits=64))
    assert sorted(code.z.unique().tolist()) == [-1.0, 1.0]


# ------------------------------------------------------------------------ options


def test_without_sampling_training_equals_evaluation():
    given, latent = features(), Binary(4, stochastic=False)
    first, again, quiet = latent.train()(given), latent(given), latent.eval()(given)
    assert torch.equal(first.z, again.z)
    assert torch.equal(first.z, quiet.z)
    assert first.mean is None


@pytest.mark.parametrize("mask", [None, MASK])
def test_entropy_loss_is_minus_the_mutual_information(mask):
    given = features(mask=mask)
    latent = Binary(4, entropy=0.3).train()
    assert latent.weights == {"kl": 0.0, "entropy": 0.3}
    valid = torch.ones(5, 3, dtype=torch.bool) if mask is None else mask
    p = posterior(given.x).probs[valid]
    expected = (Bernoulli(p).entropy().mean(0) - Bernoulli(p.mean(0)).entropy()).sum() * len(p) / 5
    torch.testing.assert_close(latent(given).losses["entropy"], expected)
    assert "entropy" not in Binary(4)(given).losses


def test_the_entropy_loss_makes_bits_deterministic_and_balanced():
    x = (0.1 * torch.randn(64, 1, 6, generator=torch.Generator().manual_seed(0)) + 0.2).requires_grad_()
    latent = Binary(6, entropy=1.0).train()
    optimizer = torch.optim.Adam([x], lr=0.02)
    for _ in range(300):
        loss = latent(Features(x=x)).losses["entropy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) == pytest.approx(-6 * math.log(2), abs=0.1)
    assert (x > 0).float().mean((0, 1)).sub(0.5).abs().max() < 0.05


def test_beta_weights_and_warmup_scales_the_kl():
    assert Binary(3, beta=0.5).weights["kl"] == 0.5
    it, given = Binary(4, warmup=2), features()
    shares = []
    for _ in range(4):
        code = it(given)
        shares.append(float(code.losses["kl"] / code.metrics["kl"]))
        it.update()
    assert shares == pytest.approx([0, 0.5, 1, 1])


# ------------------------------------------------------------------------ discrete


def test_bits_are_a_fixed_rate_of_valid_tokens():
    assert Binary(4)(features()).bits.tolist() == [12.0] * 5
    assert Binary(4)(features(mask=MASK)).bits.tolist() == [12.0, 4.0, 8.0, 12.0, 0.0]
    assert Binary(4).vocab == (2, 2, 2, 2)


def test_perplexity_measures_the_use_of_both_values():
    x = torch.ones(8, 1, 3)
    x[:4, :, 0] = -1  # even
    x[:2, :, 1] = -1  # a quarter; the third bit is a constant
    expected = (2 + math.exp(-0.25 * math.log(0.25) - 0.75 * math.log(0.75)) + 1) / 3
    assert Binary(3).eval()(Features(x=x)).metrics["perplexity"] == pytest.approx(expected)


@pytest.mark.parametrize("bits", [1, 3, 64])
def test_embed_reproduces_the_code(bits):
    latent = Binary(bits).eval()
    code = latent(features(bits=bits, mask=MASK))
    assert torch.equal(latent.embed(code.indices), code.z)
    assert torch.equal(latent.embed(code.indices.int()), code.z)


@pytest.mark.parametrize(
    ("indices", "says"),
    [
        (torch.zeros(2, 3, 5, dtype=torch.int64), r"shape \(b, n, 4\), not \(2, 3, 5\)"),
        (torch.zeros(2, 4, dtype=torch.int64), "shape"),
        (torch.zeros(2, 3, 4), "whole numbers .* not torch.float32"),
        (torch.full((2, 3, 4), 2), r"\[0, 1\], not 2 to 2"),
        (torch.full((2, 3, 4), -1), r"\[0, 1\], not -1 to -1"),
    ],
)
def test_invalid_indices_are_refused(indices, says):
    with pytest.raises(PartArgumentError, match=says):
        Binary(4).embed(indices)


def test_the_prior_is_uniform_and_depends_on_the_generator():
    latent = Binary(6)
    z = latent.prior((5000, 2), torch.Generator().manual_seed(0))
    assert sorted(z.unique().tolist()) == [-1.0, 1.0]
    assert z.mean((0, 1)).abs().max() < 0.05
    assert torch.equal(z, latent.prior((5000, 2), torch.Generator().manual_seed(0)))


# ------------------------------------------------------------------------ robustness


@pytest.mark.parametrize("training", [True, False])
def test_padding_has_no_effect(training):
    latent = Binary(4, entropy=0.5).train(training)
    results = []
    for filler in (0.0, 1e3, float("nan")):
        x = features().x.masked_fill(~MASK[..., None], filler).requires_grad_()
        torch.manual_seed(0)
        code = latent(Features(x=x, mask=MASK))
        (code.z[MASK].sum() + sum(code.losses.values()) + code.log_prob.sum()).backward()
        assert (x.grad[~MASK] == 0).all()
        assert (x.grad[MASK] != 0).all()
        found = (
            code.z[MASK],
            *code.losses.values(),
            code.bits,
            code.log_prob,
            *code.metrics.values(),
            x.grad,
        )
        results.append(found)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)
    cut, valid = features().x[1:3], MASK[1:3]
    shorter, longer = Features(x=cut[:, :2], mask=valid[:, :2]), Features(x=cut, mask=valid)
    torch.testing.assert_close(latent(shorter).losses, latent(longer).losses)
    if not training:
        torch.testing.assert_close(latent(shorter).metrics, latent(longer).metrics)


def test_extreme_features_stay_finite_with_a_gradient():
    x = torch.tensor([-1e6, -30.0, 0.0, 30.0, 1e6]).view(5, 1, 1).requires_grad_()
    code = Binary(1, entropy=1.0).train()(Features(x=x))
    (sum(code.losses.values()) + code.log_prob.sum() + code.z.sum()).backward()
    assert torch.isfinite(code.losses["kl"])
    assert torch.isfinite(code.losses["entropy"])
    assert torch.isfinite(x.grad).all()
    assert code.indices.flatten().tolist()[::4] == [0, 1]


def test_without_valid_tokens_results_are_finite():
    code = Binary(4, entropy=1.0).train()(features(b=1, mask=torch.zeros(1, 3, dtype=torch.bool)))
    assert (float(code.losses["kl"]), float(code.losses["entropy"]), float(code.bits)) == (0.0, 0.0, 0.0)
    assert code.metrics["perplexity"] == 1


def test_bf16_features_give_bf16_codes_and_float32_losses():
    half = Features(x=features(n=1).x.bfloat16())
    code = Binary(4, entropy=1.0).train()(half)
    assert code.z.dtype == code.mean.dtype == torch.bfloat16
    assert code.losses["kl"].dtype == code.losses["entropy"].dtype == torch.float32
    assert sorted(code.z.unique().tolist()) == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bits": 0}, "bits=0 must be an integer"),
        ({"stochastic": 1}, "stochastic=1 must be True or False"),
        ({"beta": -0.5}, "beta=-0.5 must be a number of at least 0"),
        ({"entropy": float("nan")}, "entropy"),
    ],
)
def test_arguments_are_checked(options, says):
    with pytest.raises(PartArgumentError, match=says):
        Binary(**options)


# ------------------------------------------------------------------------ ranks

VARIANTS = ({"beta": 0.1, "entropy": 0.5}, {"stochastic": False})


def a_step(rank, options):
    """Code, losses and gradient of one training step on this rank's rows of a joined batch of eight."""
    size = collectives.world_size()
    rows = slice(rank * 8 // size, (rank + 1) * 8 // size)
    given = features(b=8, mask=length_mask(torch.tensor([3, 1, 2, 3, 1, 1, 2, 3]), 3))
    x = given.x[rows].clone().requires_grad_()
    torch.manual_seed(5)
    latent = Binary(4, **options).train()
    code = latent(Features(x=x, mask=given.mask[rows]))
    total = sum(latent.weights[k] * v for k, v in code.losses.items()) + (code.z - 0.3).square().sum() / len(
        x
    )
    total.backward()
    values = [total.detach(), code.metrics["perplexity"], *(v.detach() for v in code.losses.values())]
    mean = collectives.sum_over_ranks(torch.stack(values)) / size
    return collectives.gather(code.z), mean, collectives.gather(x.grad) / size


def all_steps(rank):
    return [a_step(rank, options) for options in VARIANTS]


@pytest.mark.ranks
def test_two_ranks_equal_one_process():
    for pair, whole in zip(together(2, all_steps)[1], all_steps(0), strict=True):
        torch.testing.assert_close(pair, whole)
