"""Waves of speech: the core's sound files in and out, silence cut off, clipping found.  One channel, float32 in [-1, 1]."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.data.sound import RATE, SUFFIXES, blocks, duration, encoded, read, write, writing
from reprkit.errors import DataError

__all__ = [
    "RATE",
    "SUFFIXES",
    "blocks",
    "clipped_share",
    "duration",
    "encoded",
    "read",
    "trim_silence",
    "write",
    "writing",
]

SILENT = 1e-4  # the largest value of a sound that counts as none, -80 dB


def trim_silence(
    wave: Float[Tensor, " samples"], rate: int = RATE, *, floor: float = 40.0, margin: float = 0.05
) -> Float[Tensor, " fewer"]:
    """The wave (samples,) without the silence at its ends; pauses inside stay.

    Args:
        wave: one channel.
        rate: in Hz.
        floor: a frame of 20 ms is silent where its energy is so many dB below the loudest one's.
        margin: seconds that are left before the first and after the last frame that is not silent.

    Raises:
        DataError: nothing but silence (no value above -80 dB).
    """
    if not len(wave) or float(wave.abs().max()) < SILENT:
        raise DataError("it holds nothing but silence")
    hop = max(1, rate // 100)
    squares = torch.nn.functional.pad(wave.double().square(), (0, -len(wave) % hop)).reshape(-1, hop).sum(1)
    energy = squares + torch.nn.functional.pad(squares[1:], (0, 1))  # frame i: hops i and i + 1
    loud = (energy > energy.max() * 10 ** (-floor / 10)).nonzero().flatten()
    extra = round(margin * rate)
    first = max(0, int(loud[0]) * hop - extra)
    last = min(len(wave), (int(loud[-1]) + 2) * hop + extra)
    return wave[first:last]


def clipped_share(wave: Float[Tensor, " samples"]) -> float:
    """The share of samples in runs of three and more at the wave's largest value: 0 in natural recordings, about."""
    size = wave.abs()
    peak = float(size.max()) if len(wave) else 0.0
    if peak < SILENT:
        return 0.0
    at = torch.nn.functional.pad((size >= 0.999 * peak).float(), (2, 2))
    three = at.unfold(0, 3, 1).sum(1) == 3  # runs that begin here
    inside = torch.nn.functional.max_pool1d(three.float()[None], 3, 1)[0]
    return float(inside.mean())
