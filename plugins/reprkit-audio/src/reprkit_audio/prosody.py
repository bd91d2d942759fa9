"""Prosody: mean and standard deviation of a voice's log-pitch, and conversion of one voice's pitch to another's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError

LOWEST, HIGHEST = 40.0, 800.0  # Hz
_MAX_RATIO = 2.0  # bound of the scaling, since a short utterance's deviation is a poor estimate


@dataclass(frozen=True, kw_only=True)
class PitchStatistics:
    """Mean and standard deviation of a voice's log-pitch.

    Attributes:
        mean: of the natural logarithm of the pitch in Hz, over voiced frames.
        spread: its standard deviation.
        frames: number of voiced frames that were measured.
    """

    mean: float
    spread: float
    frames: int


def pitch_statistics(*pitches: Float[Tensor, " t"]) -> PitchStatistics:
    """Mean and standard deviation of the log-pitch over the voiced frames of one or more utterances; 0 Hz is unvoiced.

    Raises:
        DataError: no frame is voiced.
    """
    voiced = torch.cat([pitch[pitch > 0].double() for pitch in pitches]) if pitches else torch.zeros(0)
    if not len(voiced):
        raise DataError(
            "no frame is voiced, so the pitch cannot be measured: is it silence, noise or a whisper?"
        )
    logs = voiced.log()
    return PitchStatistics(mean=float(logs.mean()), spread=float(logs.std(correction=0)), frames=len(logs))


def convert_pitch(
    pitch: Float[Tensor, " t"], source: PitchStatistics, target: PitchStatistics
) -> Float[Tensor, " t"]:
    """Replace the source's mean and standard deviation of the log-pitch by the target's; unvoiced frames stay 0.

    The usual linear conversion of log-F0 (e.g. Toda et al. 2007, IEEE TASLP 15(8), eq. 38).  The standard deviation changes by a
    factor of 2 at most, and the result lies between 40 and 800 Hz.
    """
    ratio = 1.0 if source.spread == 0 else target.spread / source.spread
    ratio = min(max(ratio, 1 / _MAX_RATIO), _MAX_RATIO)
    voiced = pitch > 0
    logs = torch.where(voiced, pitch, torch.ones_like(pitch)).log()
    converted = ((logs - source.mean) * ratio + target.mean).exp().clamp(LOWEST, HIGHEST)
    return torch.where(voiced, converted, torch.zeros_like(pitch))
