"""Similarity of two time-aligned waveforms: spectrum, pitch and voicing, frame by frame."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError
from reprkit_audio.frontends.base import check_waveform, frontend
from reprkit_audio.frontends.log_mel import LogMel
from reprkit_audio.frontends.world import World

_AUDIBLE_DB = 50.0  # dB below the loudest band at which a band counts as inaudible


def mel_distance(one: Float[Tensor, " t"], two: Float[Tensor, " t"], form: str = "log-mel") -> float:
    """Mean absolute difference of the magnitudes in mel bands, dB, where either is within 50 dB of the first's loudest.

    Args:
        one: the original waveform.
        two: its copy, of the same length.
        form: a log-mel front end, which defines the bands.

    Raises:
        DataError: no waveforms, or of different lengths.
    """
    front = frontend(form)
    if not isinstance(front, LogMel):
        raise DataError(f"mel_distance compares frames of log-mel, not of {form!r}")
    _check_equal_length(one, two)
    levels = [front.decibels(front.analyze(wave).frames) for wave in (one, two)]
    audible = torch.maximum(*levels) > levels[0].max() - _AUDIBLE_DB
    return float((levels[0] - levels[1]).abs()[audible].mean())


def pitch_difference(one: Float[Tensor, " t"], two: Float[Tensor, " t"]) -> tuple[float, float]:
    """Difference of the pitches and of the voicing, by WORLD's analysis.

    Returns:
        Median absolute difference in semitones over frames where both are voiced, NaN if there is none; and the share of
        frames with the same voicing.

    Raises:
        DataError: no waveforms, or of different lengths.
    """
    _check_equal_length(one, two)
    front = World()
    pitches = [front.pitch(wave) for wave in (one, two)]
    voiced = [pitch > 0 for pitch in pitches]
    both = voiced[0] & voiced[1]
    semitones = 12 * (pitches[0] / pitches[1])[both].log2().abs()
    return float(semitones.median()) if len(semitones) else math.nan, float(
        (voiced[0] == voiced[1]).float().mean()
    )


def _check_equal_length(one: Tensor, two: Tensor) -> None:
    if len(check_waveform(one)) != len(check_waveform(two)):
        raise DataError(
            f"waveforms of {len(one)} and {len(two)} samples differ in length: cut the longer one"
        )
