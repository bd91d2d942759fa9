"""Sounds made by a formula, for tests: a voice that glides, with overtones of known strength."""

import torch

RATE = 16000


def voice(seconds=1.0, low=110.0, high=140.0, rate=RATE):
    """A buzz that glides from ``low`` to ``high`` Hz through two resonances, and its pitch at every sample."""
    t = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    pitch = low + (high - low) * t / seconds
    phase = 2 * torch.pi * torch.cumsum(pitch, 0) / rate
    wave = torch.zeros_like(t)
    for n in range(1, int(0.45 * rate / max(low, high))):
        frequency = n * (low + high) / 2
        gain = 1 / (1 + ((frequency - 600) / 150) ** 2) + 0.5 / (1 + ((frequency - 1500) / 250) ** 2) + 0.01
        wave += gain * torch.sin(n * phase + n)
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wave = 0.4 * wave / wave.abs().max() + 0.001 * noise
    return wave.float(), pitch.float()
