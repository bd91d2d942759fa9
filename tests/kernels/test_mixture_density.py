import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from reprkit.kernels import mixture_density as module
from reprkit.kernels.mixture_density import mixture_log_densities


def parts(draws=7, components=5, dim=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(draws, dim, generator=generator, dtype=dtype).requires_grad_()
    mean = torch.randn(components, dim, generator=generator, dtype=dtype).requires_grad_()
    deviation = (torch.rand(components, dim, generator=generator, dtype=dtype) + 0.05).requires_grad_()
    return z, mean, deviation


def by_torch(z, mean, deviation, log_weight=None):
    """The same by torch.distributions, one draw after the other since each may have its own weights."""
    log_weight = torch.zeros(len(z), len(mean), dtype=z.dtype) if log_weight is None else log_weight
    together, apart = [], []
    for draw, weight in zip(z, log_weight, strict=True):
        mixed = MixtureSameFamily(Categorical(logits=weight), Independent(Normal(mean, deviation), 1))
        single = MixtureSameFamily(
            Categorical(logits=weight.expand(z.shape[1], -1)), Normal(mean.T, deviation.T)
        )
        together.append(mixed.log_prob(draw))
        apart.append(single.log_prob(draw))
    return torch.stack(together), torch.stack(apart)


@pytest.mark.parametrize("block", [2**17, 10])  # one block, and blocks of two draws
@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_gradients_are_those_of_torch_distributions(monkeypatch, block, weighted):
    monkeypatch.setitem(module.BLOCK, "cpu", block)
    given = parts()
    weight = torch.rand(7, 5, dtype=torch.float64).softmax(1).log() if weighted else None
    found, expected = mixture_log_densities(*given, weight), by_torch(*given, weight)
    factors = (
        torch.linspace(-1, 2, 7, dtype=torch.float64),
        torch.linspace(3, 1, 21, dtype=torch.float64).view(7, 3),
    )
    gradients = []
    for way in (found, expected):
        total = sum((value * factor).sum() for value, factor in zip(way, factors, strict=True))
        gradients.append(torch.autograd.grad(total, given))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*gradients)


def test_draws_far_from_all_components_have_finite_densities():
    z, mean, deviation = torch.full((2, 1), 1e4), torch.zeros(3, 1), torch.full((3, 1), 1e-2)
    together, apart = mixture_log_densities(z, mean, deviation)
    expected = -0.5 * (1e6) ** 2 - math.log(1e-2) - 0.5 * math.log(2 * math.pi)
    assert together.tolist() == pytest.approx([expected] * 2, rel=1e-6)
    assert apart.flatten().tolist() == pytest.approx([expected] * 2, rel=1e-6)


def test_autocast_changes_nothing():
    given = [each.float().detach() for each in parts()]
    plain = mixture_log_densities(*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(mixture_log_densities(*given), plain, rtol=0, atol=0)


@pytest.mark.parametrize("fixed", [(), (0, 2)])
def test_second_derivatives_are_those_of_finite_differences(fixed):
    weight = torch.rand(3, 2, dtype=torch.float64).softmax(1).log()
    given = parts(draws=3, components=2, dim=2)
    for place in fixed:
        given[place].requires_grad_(False)
    assert torch.autograd.gradgradcheck(lambda *given: mixture_log_densities(*given, weight), given)
