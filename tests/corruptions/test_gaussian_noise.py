import pytest
import torch

from reprkit.corruptions.gaussian_noise import GaussianNoise
from reprkit.errors import PartArgumentError


def test_the_noise_is_normal_with_the_given_deviation():
    x = torch.full((200, 8, 8, 1), 0.5)
    noise = (GaussianNoise(0.3)({"x": x}, torch.Generator().manual_seed(0))[0]["x"] - x) / 0.3
    n = noise.numel()
    assert abs(noise.mean()) < 4 / n**0.5
    assert abs(noise.square().mean() - 1) < 4 * (2 / n) ** 0.5
    assert abs(noise.pow(4).mean() - 3) < 4 * (96 / n) ** 0.5  # the kurtosis of a normal, not of another bell
    assert (noise.abs() < 1).float().mean() == pytest.approx(0.6827, abs=0.02)


def test_it_adds_unclipped_noise():
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(1))
    made, hit = GaussianNoise(0.5)({"x": x}, torch.Generator().manual_seed(2))
    assert torch.equal(made["x"], x + 0.5 * torch.randn(50, 4, generator=torch.Generator().manual_seed(2)))
    assert hit.all()
    assert made["x"].min() < 0
    assert made["x"].max() > 1


def test_the_deviation_of_each_example_is_uniform_between_two_bounds():
    x = torch.zeros(2_000, 400)
    made, _ = GaussianNoise(0.8, least=0.2)({"x": x}, torch.Generator().manual_seed(3))
    found = made["x"].std(1)
    assert found.mean() == pytest.approx(0.5, abs=4 * 0.6 / 12**0.5 / 2_000**0.5)
    assert found.std() == pytest.approx(0.6 / 12**0.5, abs=0.01)
    assert 0.15 < found.min() < 0.25
    assert 0.75 < found.max() < 0.9
    with pytest.raises(PartArgumentError, match=r"least=0\.9 is above std=0\.8"):
        GaussianNoise(0.8, least=0.9)


def test_half_precision_is_preserved():
    for noise in (GaussianNoise(0.1), GaussianNoise(0.1, least=0.05)):
        made, _ = noise({"x": torch.zeros(3, 4, dtype=torch.bfloat16)})
        assert made["x"].dtype == torch.bfloat16
