"""Waveforms of speech, one channel, float32 in [-1, 1]: the core's sound file functions, silence trimming, clipping."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.data.sound import RATE, SUFFIXES, blocks, duration, encode, open_writer, read, write
from reprkit.errors import DataError

__all__ = [
    "RATE",
    "SUFFIXES",
    "blocks",
    "clipped_share",
    "duration",
    "encode",
    "open_writer",
    "read",
    "trim_silence",
    "write",
]

SILENT = 1e-4  # a sound whose largest value is below this, -80 dB, counts as silent


def trim_silence(
    wave: Float[Tensor, " samples"], rate: int = RATE, *, floor: float = 40.0, margin: float = 0.05
) -> Float[Tensor, " fewer"]:
    """Cut the silence at a waveform's ends (samples,); pauses inside stay.

    Args:
        wave: one channel.
        rate: sampling rate in Hz.
        floor: a frame of 20 ms is silent if its energy is this many dB below the loudest frame's.
        margin: seconds kept before the first and after the last frame that is not silent.

    Raises:
        DataError: the waveform is silent (no value above -80 dB).
    """
    if not len(wave) or float(wave.abs().max()) < SILENT:
        raise DataError("it is silent")
    hop = max(1, rate // 100)
    squares = torch.nn.functional.pad(wave.double().square(), (0, -len(wave) % hop)).reshape(-1, hop).sum(1)
    energy = squares + torch.nn.functional.pad(squares[1:], (0, 1))  # frame i: hops i and i + 1
    loud = (energy > energy.max() * 10 ** (-floor / 10)).nonzero().flatten()
    extra = round(margin * rate)
    first = max(0, int(loud[0]) * hop - extra)
    last = min(len(wave), (int(loud[-1]) + 2) * hop + extra)
    return wave[first:last]


def clipped_share(wave: Float[Tensor, " samples"]) -> float:
    """Share of samples in runs of three or more at the waveform's largest value: about 0 in natural recordings."""
    size = wave.abs()
    peak = float(size.max()) if len(wave) else 0.0
    if peak < SILENT:
        return 0.0
    at_peak = torch.nn.functional.pad((size >= 0.999 * peak).float(), (2, 2))
    starts = at_peak.unfold(0, 3, 1).sum(1) == 3  # runs of three that begin here
    inside = torch.nn.functional.max_pool1d(starts.float()[None], 3, 1)[0]
    return float(inside.mean())
