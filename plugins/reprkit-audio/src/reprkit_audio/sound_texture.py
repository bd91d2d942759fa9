"""Statistics of a sound's texture: what it sounds like on average, whatever happens when."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit_audio.frontends.log_mel import LogMel

COMPRESSION = 0.3  # exponent of the envelopes, as the ear compresses them
LOWEST_RATE = 0.5  # Hz, of the modulations
_SECONDS = 4.0  # shorter sounds are padded to resolve slow modulations
_STILL = 1e-6  # variance below which a band counts as constant


def texture(frames: Float[Tensor, "t c"], front: LogMel) -> Float[Tensor, " d"]:
    """Return statistics of a sound, after McDermott and Simoncelli (2011) as Owens et al. use them (arXiv 1608.07017, section 3).

    A band's envelope is its magnitude to the power of 0.3; envelopes are divided by their mean over time and bands, so that the
    statistics do not depend on the level.  Here bands are mel bands at the frame rate of the front end, where the paper has 32
    cochlear filters and envelopes of 400 Hz; so modulations end at half the frame rate, and the level is the mean, where the paper
    has the median, which is silence in many short recordings.

    In this order, of c bands and k = ``modulation_count(front)``:

    1. mean of each envelope (c);
    2. standard deviation of each (c);
    3. modulations (c k): the shares of a band's variance at rates from 0.5 Hz on, an octave each;
    4. correlations (c (c - 1) / 2) between the envelopes of each two bands;
    5. level (1): natural logarithm of the mean that the envelopes were divided by.

    Args:
        frames: of the front end.
        front: the front end.
    """
    envelopes = front.denormalize(frames.double()) ** COMPRESSION
    level = envelopes.mean()
    envelopes = envelopes / level
    mean, centered = envelopes.mean(0), envelopes - envelopes.mean(0)
    variance = centered.square().mean(0)
    moving = variance > _STILL
    unit = torch.where(moving, centered / variance.clamp(min=_STILL).sqrt(), 0.0)
    correlations = unit.T @ unit / len(frames)
    upper = torch.triu_indices(front.bands, front.bands, 1)
    parts = [mean, variance.sqrt(), _modulations(unit, front).flatten(), correlations[upper[0], upper[1]]]
    return torch.cat([*parts, level.log()[None]]).float()


def modulation_count(front: LogMel) -> int:
    """Return the number of octaves from 0.5 Hz to half the frame rate."""
    return max(1, math.ceil(math.log2(front.rate / front.hop / 2 / LOWEST_RATE)))


def texture_size(front: LogMel) -> int:
    """Return the number of statistics (d)."""
    bands = front.bands
    return bands * (2 + modulation_count(front)) + bands * (bands - 1) // 2 + 1


def _modulations(unit: Float[Tensor, "t c"], front: LogMel) -> Float[Tensor, "c k"]:
    """Return the share of each band's variance in each octave of the modulation's rate; zeros for a constant band."""
    rate = front.rate / front.hop
    size = max(len(unit), math.ceil(_SECONDS * rate))
    power = torch.fft.rfft(unit, n=size, dim=0).abs().square()
    frequencies = torch.arange(len(power), dtype=torch.float64) * rate / size
    octave = (frequencies.clamp(min=1e-9) / LOWEST_RATE).log2().floor().long()
    count = modulation_count(front)
    shares = power.new_zeros(count, unit.shape[1])
    inside = (octave >= 0) & (octave < count)
    shares.index_add_(0, octave[inside], power[inside])
    return (shares / power.sum(0).clamp(min=1e-12)).T
