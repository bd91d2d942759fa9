import pytest
import torch

from reprkit.corruptions.gaussian_noise import GaussianNoise


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


def test_half_precision_is_preserved():
    made, _ = GaussianNoise(0.1)({"x": torch.zeros(3, 4, dtype=torch.bfloat16)})
    assert made["x"].dtype == torch.bfloat16
