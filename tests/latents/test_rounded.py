"""Rounded and its entropy model: masses sum to one, the rate, noise, rounding, the prior, masks and fit."""

import math

import pytest
import torch

from reprkit.errors import PartArgumentError
from reprkit.latents.entropy_model import FactorizedEntropy
from reprkit.latents.rounded import SHARPNESS, Rounded
from reprkit.types import Features


def make_latent(dim=3, seed=0, **options):
    torch.manual_seed(seed)
    return Rounded(dim, **options)


def whole_numbers(limit, dim):
    return (torch.arange(2 * limit + 1.0) - limit).view(-1, 1, 1).expand(-1, 1, dim)


def test_masses_are_a_distribution_of_whole_numbers():
    torch.manual_seed(0)
    model = FactorizedEntropy(5).double()
    mass = model.log_mass(whole_numbers(200, 5).double()).exp()
    torch.testing.assert_close(mass.sum((0, 1)), torch.ones(5, dtype=torch.float64), atol=1e-6, rtol=0)
    assert (mass > 0).all()


def test_the_mass_is_the_difference_of_the_cumulative_distribution():
    torch.manual_seed(0)
    model = FactorizedEntropy(2).double()
    z = torch.randn(4, 3, 2, dtype=torch.float64) * 3
    flat = z.flatten(0, 1).T.unsqueeze(1)
    plain = torch.sigmoid(model.logits(flat + 0.5)) - torch.sigmoid(model.logits(flat - 0.5))
    torch.testing.assert_close(model.log_mass(z).exp(), plain.squeeze(1).T.reshape(z.shape))
    rises = model.logits(torch.linspace(-30, 30, 400, dtype=torch.float64).expand(2, 1, 400)).diff()
    assert (rises > 0).all()


def test_a_trained_model_costs_the_entropy_of_its_values():
    """Fitted to values of a known distribution, the rate comes within 5 % of its entropy."""
    torch.manual_seed(0)
    shares, values = torch.tensor([0.1, 0.3, 0.6]), torch.tensor([-1.0, 0.0, 1.0]).view(-1, 1, 1)
    model = FactorizedEntropy(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(400):
        loss = -(shares * model.log_mass(values).flatten()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) == pytest.approx(float(torch.special.entr(shares).sum()), rel=0.05)


def test_noise_in_training_and_rounding_after():
    latent, x = make_latent(), torch.randn(200, 2, 3).requires_grad_()
    trained = latent.train()(Features(x=x))
    noise = trained.z - SHARPNESS * x
    assert float(noise.min()) >= -0.5
    assert float(noise.max()) <= 0.5
    assert float(noise.std()) == pytest.approx(12**-0.5, rel=0.05)
    code = latent.eval()(Features(x=x))
    assert torch.equal(code.z, (SHARPNESS * x).round())
    assert torch.equal(trained.mean, code.z)
    assert code.mean is None
    assert torch.equal(latent.embed(code.indices), code.z)
    code.z.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, SHARPNESS))


def test_bits_are_the_rate_and_the_loss_in_nats():
    latent = make_latent().eval()
    code = latent(Features(x=torch.randn(5, 2, 3)))
    torch.testing.assert_close(code.bits * math.log(2), -latent.log_prior(code).sum(1))
    torch.testing.assert_close(code.losses["kl"], code.bits.mean() * math.log(2))
    assert latent.weights == {"kl": 1.0}


def test_numbers_beyond_the_limit_are_cut_and_find_back():
    latent = make_latent(1, limit=2)
    x = torch.tensor([[[9.0]], [[-9.0]]]).requires_grad_()
    code = latent.eval()(Features(x=x))
    assert code.z.flatten().tolist() == [2, -2]
    assert code.indices.flatten().tolist() == [4, 0]
    code.z.square().sum().backward()
    assert x.grad[0] > 0 > x.grad[1]


def test_the_prior_draws_by_the_learned_frequencies():
    latent = make_latent(2, limit=20)
    draws = latent.prior((4000, 2), torch.Generator().manual_seed(0))
    mass = latent.entropy.log_mass(whole_numbers(20, 2)).exp()[:, 0]
    mass = mass / mass.sum(0)
    for dim in range(2):
        seen = torch.bincount((draws[..., dim] + 20).long().flatten(), minlength=41) / 8000
        torch.testing.assert_close(seen, mass[:, dim].detach(), atol=0.02, rtol=0)
    assert draws.shape == (4000, 2, 2)


def test_padding_has_no_effect():
    x, mask = torch.randn(2, 3, 3), torch.tensor([[True, True, False], [True, False, False]])
    results = []
    for fill in (0.0, 5.0, math.nan):
        given = x.masked_fill(~mask[..., None], fill).requires_grad_()
        latent = make_latent().train()
        torch.manual_seed(1)
        code = latent(Features(x=given, mask=mask))
        code.losses["kl"].backward()
        assert (given.grad[~mask] == 0).all()
        results.append([code.z[mask], code.bits, code.losses["kl"], given.grad])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_few_values_in_use_are_no_collapse():
    assert Rounded(3).collapse_floor == 0


def test_arguments_are_checked():
    for wrong in ({"limit": 0}, {"beta": -1}, {"warmup": -1}, {"dim": 0}):
        with pytest.raises(PartArgumentError, match=next(iter(wrong))):
            Rounded(**wrong)
    with pytest.raises(PartArgumentError, match="indices"):
        Rounded(2, limit=1).embed(torch.full((1, 1, 2), 3))
