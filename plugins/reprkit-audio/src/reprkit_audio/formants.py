"""Voice conversion without learning: pitch conversion and formant shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reprkit_audio.frontends import Sound
from reprkit_audio.frontends.world import World
from reprkit_audio.prosody import PitchStatistics, convert_pitch, pitch_statistics

# Vocal tract lengths differ by less: among adults by about 20 %.
RATIOS = np.geomspace(0.75, 1 / 0.75, 41)
_BAND = (100.0, 5000.0)  # Hz, the range that is compared

Array = np.ndarray[Any, Any]


def formant_ratio(source: Sequence[Sound], target: Sequence[Sound], front: World) -> float:
    """Estimate the ratio of the target's formants to the source's: the one that matches their mean envelopes best.

    A voice is represented by its mean log-envelope over voiced frames, without its level.  One ratio is
    estimated, as in vocal tract length normalization (Lee and Rose 1998, IEEE TSAP 6(1)).
    """
    frequencies = np.linspace(0, front.rate / 2, front.decode_envelope(source[0].frames[:1]).shape[1])
    band = (frequencies >= _BAND[0]) & (frequencies <= _BAND[1])
    own, other = _mean_log_envelope(source, front), _mean_log_envelope(target, front)[band]
    errors = []
    for ratio in RATIOS:
        stretched = stretch_frequency(own[None], float(ratio))[0][band]
        errors.append(float(np.square(stretched - stretched.mean() - other + other.mean()).mean()))
    return float(RATIOS[int(np.argmin(errors))])


def shift_voice(
    sound: Sound, front: World, ratio: float, source: PitchStatistics | None, target: PitchStatistics
) -> Sound:
    """Scale the formants by ``ratio``, and convert the pitch to the target's mean and standard deviation.

    Args:
        sound: an analysis of front end ``world``.
        front: that front end.
        ratio: above 1 for a shorter vocal tract.
        source: the sound's own pitch statistics; measured if None.
        target: the target voice's.
    """
    pitch = sound.pitch
    if pitch is not None and (pitch > 0).any():
        pitch = convert_pitch(pitch, source or pitch_statistics(pitch), target)
    envelope = np.exp(stretch_frequency(np.log(front.decode_envelope(sound.frames)), ratio))
    return replace(sound, frames=front.encode_envelope(envelope), pitch=pitch)


def stretch_frequency(spectra: Array, ratio: float) -> Array:
    """Stretch the frequency axis of spectra (t f) by ``ratio``; past its end the last value is repeated."""
    bins = spectra.shape[1]
    position = np.minimum(np.arange(bins) / ratio, bins - 1)
    low = np.minimum(position.astype(int), bins - 2)
    weight = position - low
    return spectra[:, low] * (1 - weight) + spectra[:, low + 1] * weight


def _mean_log_envelope(sounds: Sequence[Sound], front: World) -> Array:
    total, count = 0.0, 0
    for each in sounds:
        voiced = np.ones(len(each.frames), bool) if each.pitch is None else (each.pitch > 0).numpy()
        logs = np.log(front.decode_envelope(each.frames))[voiced]
        total, count = total + logs.sum(0), count + len(logs)
    return np.asarray(total) / max(count, 1)
