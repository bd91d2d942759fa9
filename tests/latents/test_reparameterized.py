import pytest
import torch

from reprkit.kernels.reparameterization import Reparameterize, reparameterize, reparameterize_reference


def inputs(*, noise_too=False):
    generator = torch.Generator().manual_seed(0)
    mean, raw, noise = (torch.randn(3, 2, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    raw = raw * 8  # both bends
    return mean.requires_grad_(), raw.requires_grad_(), noise.requires_grad_(noise_too)


@pytest.mark.parametrize("noise_too", [False, True])
def test_first_and_second_derivatives_are_those_of_the_function(noise_too):
    given = inputs(noise_too=noise_too)
    assert torch.autograd.gradcheck(Reparameterize.apply, given)
    assert torch.autograd.gradgradcheck(Reparameterize.apply, given)


def test_values_and_gradients_match_the_composed_operations():
    made, again = reparameterize(*inputs()), reparameterize_reference(*inputs())
    for one, other in zip(made, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("used", [(0,), (1,), (2,), (3,), (0, 1), (1, 2), (0, 1, 2), (0, 3), (0, 1, 2, 3)])
def test_gradients_of_any_part_alone(used):
    weights = torch.Generator().manual_seed(1)
    found = []
    for function in (Reparameterize.apply, reparameterize_reference):
        weights.manual_seed(1)
        mean, raw, noise = inputs()
        made = function(mean, raw, noise)
        sum((made[place] * torch.randn(3, 2, 4, generator=weights)).sum() for place in used).backward()
        found.append((mean.grad, raw.grad))
    for one, other in zip(*found, strict=True):
        zero = torch.zeros(3, 2, 4, dtype=torch.float64)
        torch.testing.assert_close(zero if one is None else one, zero if other is None else other)
