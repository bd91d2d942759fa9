"""Voice conversion without learning: the pitch moved, and the formants with the frequency axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reprkit_audio.frontends import Sound
from reprkit_audio.frontends.world import World
from reprkit_audio.prosody import PitchStatistics, convert_pitch, pitch_statistics

# Vocal tracts differ by less: adults by about 20 %.
RATIOS = np.geomspace(0.75, 1 / 0.75, 41)
_BAND = (100.0, 5000.0)  # Hz that are compared

Array = np.ndarray[Any, Any]


def formant_ratio(source: Sequence[Sound], target: Sequence[Sound], front: World) -> float:
    """By how much one voice's formants are above another's: the ratio that brings their mean envelopes nearest.

    The mean of the log-envelope over voiced frames stands for a voice, whatever it says; its level does not count.  What is
    sought is one number, as in vocal tract length normalisation (Lee and Rose 1998, IEEE TSAP 6(1)).
    """
    places = np.linspace(0, front.rate / 2, front.decode_envelope(source[0].frames[:1]).shape[1])
    heard = (places >= _BAND[0]) & (places <= _BAND[1])
    own, other = _mean_log_envelope(source, front), _mean_log_envelope(target, front)[heard]
    apart = []
    for ratio in RATIOS:
        found = stretch_frequency(own[None], float(ratio))[0][heard]
        apart.append(float(np.square(found - found.mean() - other + other.mean()).mean()))
    return float(RATIOS[int(np.argmin(apart))])


def shift_voice(
    sound: Sound, front: World, ratio: float, source: PitchStatistics | None, target: PitchStatistics
) -> Sound:
    """The sound with its formants ``ratio`` times as high, and its pitch of the target's mean and spread.

    Args:
        sound: of front end ``world``.
        front: that front end.
        ratio: above 1 for a shorter vocal tract.
        source: the sound's own pitch; None measures it.
        target: the other voice's.
    """
    pitch = sound.pitch
    if pitch is not None and (pitch > 0).any():
        pitch = convert_pitch(pitch, source or pitch_statistics(pitch), target)
    envelope = np.exp(stretch_frequency(np.log(front.decode_envelope(sound.frames)), ratio))
    return replace(sound, frames=front.encode_envelope(envelope), pitch=pitch)


def stretch_frequency(spectra: Array, ratio: float) -> Array:
    """Spectra (t f) whose frequency axis is stretched by ``ratio``; beyond its end the last value stands."""
    bins = spectra.shape[1]
    at = np.minimum(np.arange(bins) / ratio, bins - 1)
    low = np.minimum(at.astype(int), bins - 2)
    share = at - low
    return spectra[:, low] * (1 - share) + spectra[:, low + 1] * share


def _mean_log_envelope(sounds: Sequence[Sound], front: World) -> Array:
    total, count = 0.0, 0
    for each in sounds:
        voiced = np.ones(len(each.frames), bool) if each.pitch is None else (each.pitch > 0).numpy()
        logs = np.log(front.decode_envelope(each.frames))[voiced]
        total, count = total + logs.sum(0), count + len(logs)
    return np.asarray(total) / max(count, 1)
