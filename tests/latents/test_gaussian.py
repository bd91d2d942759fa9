"""Gaussian: comparison with torch.distributions, and the effect of its options."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from reprkit.data.padding import length_mask
from reprkit.errors import PartArgumentError
from reprkit.kernels.reparameterization import HIGHEST, LOWEST, START, soft_clamp
from reprkit.latents.gaussian import Gaussian
from reprkit.testing.pool import together
from reprkit.types import Features
from reprkit.utils import collectives


def features(b=5, n=3, dim=4, seed=0, mask=None):
    x = torch.randn(b, n, 2 * dim, generator=torch.Generator().manual_seed(seed))
    x[..., dim:] = 2 * x[..., dim:] - START - 1  # log-variances about -1
    return Features(x=x, mask=mask)


def posterior(x):
    """Return the posterior of the docstring as a torch distribution."""
    mean, raw = x.chunk(2, -1)
    log_variance = LOWEST + torch.nn.functional.softplus(
        HIGHEST - torch.nn.functional.softplus(HIGHEST - raw - START) - LOWEST
    )
    return Normal(mean, log_variance.exp().sqrt())


# ------------------------------------------------------------------------ the reference


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask", [None, length_mask(torch.tensor([3, 1, 2, 3, 0]), 3)])
def test_kl_bits_and_log_prob_match_torch_distributions(training, mask):
    given = features(mask=mask)
    torch.manual_seed(1)
    code = Gaussian(4).train(training)(given)
    q = posterior(given.x)
    valid = torch.ones(5, 3) if mask is None else mask.float()
    kl = (kl_divergence(q, Normal(0.0, 1.0)).sum(-1) * valid).sum(1)
    torch.testing.assert_close(code.losses["kl"], kl.mean())
    torch.testing.assert_close(code.metrics["kl"], kl.mean())
    torch.testing.assert_close(code.bits, kl / math.log(2))
    torch.testing.assert_close(code.log_prob, q.log_prob(code.z).sum(-1) * valid)


def test_the_laplace_prior_matches_its_distribution():
    """The KL against the mean of many draws, log-density and draws of the prior against torch's and their moments."""
    given, latent, laplace = (
        features(b=2, n=1),
        Gaussian(4, prior="laplace"),
        torch.distributions.Laplace(0.0, 1.0),
    )
    q = posterior(given.x)
    torch.manual_seed(0)
    z = q.sample((200_000,))
    expected = (q.log_prob(z) - laplace.log_prob(z)).mean(0).sum(-1)
    code = latent.eval()(given)
    torch.testing.assert_close(code.bits * math.log(2), expected[:, 0], atol=0.02, rtol=0)
    torch.testing.assert_close(latent.log_prior(code), laplace.log_prob(q.mean).sum(-1))
    drawn = latent.prior((20_000, 1), torch.Generator().manual_seed(1))
    assert drawn.shape == (20_000, 1, 4)
    assert abs(drawn.mean()) < 4 * (2 / drawn.numel()) ** 0.5
    assert drawn.abs().mean() == pytest.approx(1, abs=0.02)
    assert drawn.square().mean() == pytest.approx(2, abs=0.08)  # of a normal distribution it would be pi / 2


def test_training_draws_with_the_global_generator_and_evaluation_takes_the_mean():
    given, latent = features(), Gaussian(4)
    q = posterior(given.x)
    torch.manual_seed(7)
    code = latent.train()(given)
    torch.manual_seed(7)
    torch.testing.assert_close(code.z, q.mean + q.stddev * torch.randn(5, 3, 4))
    assert torch.equal(code.mean, q.mean)
    code = latent.eval()(given)
    assert torch.equal(code.z, q.mean)
    assert code.mean is None
    assert code.indices is None


def test_draws_have_the_posteriors_mean_and_spread():
    torch.manual_seed(0)
    given = features(b=1, n=1)
    many = Features(x=given.x.expand(20_000, 1, 8))
    z, q = Gaussian(4).train()(many).z, posterior(given.x)
    torch.testing.assert_close(z.mean(0), q.mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(z.std(0), q.stddev[0], atol=0, rtol=0.03)


def test_the_gradient_of_the_kl_is_the_analytic_one():
    x = features().x.requires_grad_()
    Gaussian(4)(Features(x=x)).losses["kl"].backward()
    mean = x.detach()[..., :4]
    torch.testing.assert_close(x.grad[..., :4], mean / 5)  # d/dmean of mean^2 / 2, mean over 5 examples


def test_the_draw_passes_the_gradient_to_mean_and_spread():
    given = features(b=1, n=1, dim=2)
    x = given.x.clone().requires_grad_()
    torch.manual_seed(3)
    code = Gaussian(2).train()(Features(x=x))
    (slope,) = torch.autograd.grad(code.z[0, 0, 0], x)
    noise = (code.z - code.mean)[0, 0, 0].detach()
    raw = x.detach()[0, 0, 2] + START
    bend = torch.sigmoid(HIGHEST - raw) * torch.sigmoid(soft_clamp(raw) - LOWEST)
    expected = torch.tensor([1.0, 0.0, float(0.5 * noise * bend), 0.0])
    torch.testing.assert_close(slope[0, 0], expected, atol=1e-4, rtol=1e-3)


# ------------------------------------------------------------------------ options


def test_beta_is_the_weight_and_changes_nothing_else():
    given = features()
    one, other = Gaussian(4), Gaussian(4, beta=0.1)
    assert (one.weights, other.weights) == ({"kl": 1.0}, {"kl": 0.1})
    assert torch.equal(one.eval()(given).losses["kl"], other.eval()(given).losses["kl"])


@pytest.mark.parametrize("mask", [None, length_mask(torch.tensor([3, 1, 2, 3, 0]), 3)])
def test_free_bits_count_each_dimension_from_their_level_on(mask):
    given = features(mask=mask)
    q = posterior(given.x)
    each = kl_divergence(q, Normal(0.0, 1.0))
    valid = torch.ones(5, 3) if mask is None else mask.float()
    level = (each * valid[..., None]).sum((0, 1)) / valid.sum()
    threshold = float(level.sort().values[1] + level.sort().values[2]) / 2  # two dimensions lie under it
    code = Gaussian(4, free_bits=threshold).train()(given)
    torch.testing.assert_close(code.losses["kl"], level.clamp(min=threshold).sum() * valid.sum() / 5)
    torch.testing.assert_close(code.metrics["kl"], level.sum() * valid.sum() / 5)
    torch.testing.assert_close(code.bits.mean(), code.metrics["kl"] / math.log(2))


def test_capacity_is_the_distance_of_the_kl_from_a_rising_target():
    given = features(mask=length_mask(torch.tensor([3, 1, 2, 3, 0]), 3))
    latent = Gaussian(4, beta=30.0, capacity=50.0, capacity_steps=4)
    plain = Gaussian(4)(given).losses["kl"]
    for step in range(6):
        code = latent(given)
        torch.testing.assert_close(code.losses["kl"], (plain - min(50.0, 12.5 * step)).abs())
        torch.testing.assert_close(code.metrics["kl"], plain)
        latent.update()
    assert latent.weights == {"kl": 30.0}
    for wrong in ({"free_bits": 0.1}, {"warmup": 5}):
        with pytest.raises(PartArgumentError, match="capacity=3 sets the KL itself"):
            Gaussian(4, capacity=3.0, **wrong)


def test_free_bits_do_not_penalize_cheap_dimensions():
    given = features(b=64, n=1)
    x = given.x.clone()
    x[..., 0] *= 0.01
    x[..., 4] = -START  # the first dimension is the prior
    x.requires_grad_()
    Gaussian(4, free_bits=0.2)(Features(x=x)).losses["kl"].backward()
    assert x.grad[..., [0, 4]].abs().max() == 0
    assert x.grad[..., [1, 5]].abs().min() > 0


def test_warmup_scales_the_loss_by_step_and_is_saved():
    given, latent = features(), Gaussian(4, warmup=4)
    kl = Gaussian(4).eval()(given).losses["kl"]
    shares = []
    for _ in range(6):
        code = latent(given)
        shares.append(float(code.losses["kl"] / kl))
        torch.testing.assert_close(code.metrics["kl"], kl.detach())
        latent.update()
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])
    again = Gaussian(4, warmup=4)
    again.load_state_dict(latent.state_dict())
    assert again(given).losses["kl"] == pytest.approx(float(kl))


def test_the_prior_is_standard_normal_and_depends_on_the_generator():
    latent = Gaussian(6)
    z = latent.prior((5000, 2), torch.Generator().manual_seed(0))
    assert z.shape == (5000, 2, 6)
    assert z.mean().abs() < 0.01
    assert (z.std() - 1).abs() < 0.01
    assert torch.equal(z, latent.prior((5000, 2), torch.Generator().manual_seed(0)))
    assert latent.has_prior


# ------------------------------------------------------------------------ robustness


def test_extreme_features_stay_finite_with_a_gradient():
    x = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4]).view(1, 5, 1).expand(1, 5, 2).clone().requires_grad_()
    torch.manual_seed(0)
    code = Gaussian(1).train()(Features(x=x))
    (code.z.square().sum() + code.losses["kl"] + code.log_prob.sum()).backward()
    for value in (code.z, code.losses["kl"], code.log_prob, code.bits, x.grad):
        assert torch.isfinite(value).all()


def test_the_soft_clamp_bounds_and_hardly_bends_in_between():
    raw = torch.linspace(-100, 100, 2001)
    bent = soft_clamp(raw)
    assert bent.min() >= LOWEST
    assert bent.max() <= HIGHEST + 1e-4
    middle = (raw > LOWEST + 5) & (raw < HIGHEST - 5)
    torch.testing.assert_close(bent[middle], raw[middle], atol=0.01, rtol=0)
    assert (bent.diff() >= 0).all()


def test_it_starts_nearly_without_noise():
    code = Gaussian(3).eval()(Features(x=torch.zeros(1, 1, 6)))
    sd = math.exp(START / 2)
    assert code.losses["kl"] == pytest.approx(3 * 0.5 * (sd**2 - 1 - START), rel=1e-2)
    assert sd < 0.1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"free_bits": 0.3}])
def test_padding_has_no_effect(training, options):
    latent = Gaussian(4, **options).train(training)
    mask = length_mask(torch.tensor([4, 2, 1]), 4)
    results = []
    for filler in (0.0, 1e3, float("nan")):
        x = features(b=3, n=4).x.masked_fill(~mask[..., None], filler).requires_grad_()
        torch.manual_seed(0)
        code = latent(Features(x=x, mask=mask))
        (code.z[mask].sum() + code.losses["kl"] + code.bits.sum() + code.log_prob.sum()).backward()
        assert (x.grad[~mask] == 0).all()
        results.append(
            (code.z[mask], code.losses["kl"], code.bits, code.log_prob, code.metrics["kl"], x.grad)
        )
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)
    shorter = latent(Features(x=features(b=3, n=4).x[1:, :2], mask=mask[1:, :2]))
    longer = latent(Features(x=features(b=3, n=4).x[1:], mask=mask[1:]))
    torch.testing.assert_close(shorter.losses["kl"], longer.losses["kl"])
    torch.testing.assert_close(shorter.bits, longer.bits)


def test_an_example_without_a_valid_token_costs_nothing():
    code = Gaussian(4, free_bits=0.1).train()(features(b=2, n=3, mask=torch.zeros(2, 3, dtype=torch.bool)))
    assert code.bits.tolist() == [0.0, 0.0]
    assert code.metrics["kl"] == 0
    assert torch.isfinite(code.losses["kl"])


@pytest.mark.parametrize("dim", [1, 3, 7])
def test_bf16_features_give_bf16_codes_and_float32_losses(dim):
    given = features(b=2, n=1, dim=dim)
    half = Features(x=given.x.bfloat16())
    code = Gaussian(dim).train()(half)
    assert code.z.dtype == code.mean.dtype == torch.bfloat16
    assert code.losses["kl"].dtype == torch.float32
    torch.testing.assert_close(code.losses["kl"], Gaussian(dim)(Features(x=half.x.float())).losses["kl"])


def test_positions_are_passed_on():
    given = Features(x=torch.zeros(1, 2, 2), grid=(1, 2), positions=torch.tensor([[4, 5]]), length=9)
    code = Gaussian(1)(given)
    assert (code.grid, code.length) == ((1, 2), 9)
    assert code.positions.tolist() == [[4, 5]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dim": 0}, "dim=0 must be an integer"),
        ({"dim": 2.0}, "dim=2.0 must be an integer"),
        ({"beta": -1}, "beta=-1 must be a number of at least 0"),
        ({"beta": float("inf")}, "beta"),
        ({"beta": "1"}, "beta='1' must be a number"),
        ({"free_bits": -0.1}, "free_bits"),
        ({"warmup": -1}, "warmup=-1 must be an integer"),
        ({"warmup": True}, "warmup"),
    ],
)
def test_arguments_are_checked(options, says):
    with pytest.raises(PartArgumentError, match=says):
        Gaussian(**options)


def test_it_has_no_indices():
    with pytest.raises(PartArgumentError, match="continuous"):
        Gaussian(2).embed(torch.zeros(1, 1, 1, dtype=torch.int64))


# ------------------------------------------------------------------------ ranks


VARIANTS = ({}, {"free_bits": 1.0}, {"warmup": 3})


def a_step(rank, options):
    """Code, losses and gradient of one training step on this rank's rows of a joined batch of eight."""
    size = collectives.world_size()
    rows = slice(rank * 8 // size, (rank + 1) * 8 // size)
    given = features(b=8, n=3, mask=length_mask(torch.tensor([3, 1, 2, 3, 1, 1, 2, 3]), 3))
    x = given.x[rows].clone().requires_grad_()
    torch.manual_seed(5)
    code = Gaussian(4, **options).train()(Features(x=x, mask=given.mask[rows]))
    total = code.losses["kl"] + code.z.square().sum() / len(x)
    total.backward()
    mean = collectives.sum_over_ranks(torch.stack([total.detach(), code.metrics["kl"]])) / size
    return collectives.gather(code.z), mean, collectives.gather(x.grad) / size


def all_steps(rank):
    return [a_step(rank, options) for options in VARIANTS]


@pytest.mark.ranks
def test_two_ranks_equal_one_process():
    for pair, whole in zip(together(2, all_steps)[1], all_steps(0), strict=True):
        torch.testing.assert_close(pair, whole)
