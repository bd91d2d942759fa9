"""Silence and clipping in waveforms."""

import numpy as np
import pytest
import torch
from reprkit_audio.waveforms import clipped_share, is_silent, trim_silence

from reprkit.errors import DataError


def noise(seconds, rate, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_silence_at_the_ends_is_trimmed(rate):
    loud = torch.from_numpy(noise(0.5, rate))
    quiet = torch.from_numpy(noise(0.4, rate, seed=1)) * 1e-3
    wave = torch.cat([quiet, loud, quiet, loud, quiet[: rate // 5]])
    trimmed = trim_silence(wave, rate)
    assert abs(len(trimmed) - (1.4 + 0.1) * rate) <= 0.04 * rate
    first = round((0.4 - 0.05) * rate)
    assert any(
        torch.equal(trimmed, wave[first - lag : first - lag + len(trimmed)]) for lag in range(rate // 50)
    )
    assert torch.equal(trim_silence(loud, rate), loud)
    assert is_silent(torch.full((rate,), 0.9e-4))
    assert not is_silent(torch.full((rate,), -1.1e-4))
    with pytest.raises(DataError, match="is silent"):
        trim_silence(torch.zeros(rate), rate)


def test_clipping_is_measured():
    wave = torch.sin(torch.arange(16000) * 0.05) * 0.5
    assert clipped_share(wave) < 1e-3
    cut = (3 * wave).clamp(-0.9, 0.9)
    share = float(((3 * wave).abs() >= 0.9).float().mean())
    assert abs(clipped_share(cut) - share) < 0.01
    assert clipped_share(torch.zeros(10)) == 0
