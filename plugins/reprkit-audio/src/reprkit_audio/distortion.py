"""Distance of two utterances of the same words, in spectrum and pitch, after dynamic time warping."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.errors import DataError
from reprkit_audio.frontends.world import World
from reprkit_audio.waveforms import is_silent

WARP = 0.42  # of the bilinear frequency warp: close to the mel scale at 16 kHz
_GRID = 512  # points on the warped axis
_SILENCE_DB = 40.0  # dB below the loudest frame at which a frame counts as silent

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class SpeechFeatures:
    """Features of an utterance that are compared, without silent frames.

    Attributes:
        cepstrum: mel-cepstral coefficients from coefficient 1 on, so without the level (t d).
        pitch: Hz (t,), 0 where unvoiced.
    """

    cepstrum: Float[Array, "t d"]
    pitch: Float[Array, " t"]


def extract_features(
    wave: Float[Tensor, " samples"], *, order: int = 24, front: World | None = None
) -> SpeechFeatures:
    """Extract mel cepstrum and pitch of a waveform, with WORLD.

    Args:
        wave: at the front end's rate.
        order: number of coefficients; 13 and 24 are common.
        front: the front end; default settings if None.

    Raises:
        DataError: no waveform, or silence.
    """
    front = front or World()
    analyzed = front.analyze(wave)
    power = front.decode_envelope(analyzed.frames)
    level = 10 * np.log10(power.sum(1))
    if is_silent(wave):
        raise DataError("the waveform is silent, so there is nothing to compare")
    loud = level > level.max() - _SILENCE_DB
    assert analyzed.pitch is not None  # WORLD always extracts it
    return SpeechFeatures(
        cepstrum=mel_cepstrum(power[loud], order), pitch=analyzed.pitch.double().numpy()[loud]
    )


def mel_cepstrum(power: Float[Array, "t f"], order: int) -> Float[Array, "t d"]:
    """Mel-cepstral coefficients 1 to ``order`` of power spectra from 0 Hz to half the sampling rate.

    log|H(w)| = sum over m of c_m cos(m w'), w' the bilinear warp of w (Tokuda et al. 1994, ICSLP, eq. 2).
    """
    return np.log(power) @ _cepstrum_basis(power.shape[1], order)


def distortion(one: SpeechFeatures, two: SpeechFeatures) -> float:
    """Mel-cepstral distortion in dB, the mean along the best warping path: 10 / ln 10 * sqrt(2 * sum over d of (c_d - c'_d)^2).

    Kubichek 1993 (IEEE Pacific Rim Conference on Communications, eq. 3), without coefficient 0; the frames of the
    two utterances are paired by dynamic time warping.
    """
    path = dtw_path(_cost_matrix(one, two))
    difference = one.cepstrum[path[:, 0]] - two.cepstrum[path[:, 1]]
    return float((10 / math.log(10) * np.sqrt(2 * (difference**2).sum(1))).mean())


def pitch_correlation(one: SpeechFeatures, two: SpeechFeatures) -> float:
    """``log_pitch_correlation`` of the frames that are paired by the best warping path."""
    path = dtw_path(_cost_matrix(one, two))
    return log_pitch_correlation(one.pitch[path[:, 0]], two.pitch[path[:, 1]])


def log_pitch_correlation(one: Float[Array, " t"], two: Float[Array, " t"]) -> float:
    """Pearson's correlation of two log-pitches, frame by frame, where both are voiced; NaN for fewer than 3, or a constant."""
    both = (one > 0) & (two > 0)
    logs = np.log(one[both]), np.log(two[both])
    if both.sum() < 3 or min(each.std() for each in logs) < 1e-9:
        return math.nan
    return float(np.corrcoef(*logs)[0, 1])


def dtw_path(costs: Float[Array, "n m"]) -> Int[Array, "k 2"]:
    """The cheapest path from the first pair of frames to the last: dynamic time warping, each step one on in either or both.

    Sakoe and Chiba 1978 (IEEE TASSP 26(1)), symmetric steps of equal weight.  Computed one diagonal at a time.
    """
    n, m = costs.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(n + m - 1):
        i = np.arange(max(0, diagonal - m + 1), min(n - 1, diagonal) + 1)
        j = diagonal - i
        before = np.minimum(np.minimum(total[i, j + 1], total[i + 1, j]), total[i, j])
        total[i + 1, j + 1] = costs[i, j] + before
    path = [(n - 1, m - 1)]
    while path[-1] != (0, 0):
        i, j = path[-1]
        predecessors = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        path.append(
            min(predecessors, key=lambda cell: total[cell[0] + 1, cell[1] + 1] if min(cell) >= 0 else np.inf)
        )
    return np.array(path[::-1])


def _cost_matrix(one: SpeechFeatures, two: SpeechFeatures) -> Array:
    return torch.cdist(torch.from_numpy(one.cepstrum), torch.from_numpy(two.cepstrum)).numpy()


@functools.lru_cache(maxsize=8)
def _cepstrum_basis(bins: int, order: int) -> Float[Array, "f d"]:
    """Matrix from log power at equidistant frequencies to coefficients: interpolation on the warped axis, then a DCT."""
    warped = (np.arange(_GRID) + 0.5) / _GRID * np.pi
    # The inverse of a bilinear warp is the warp of the opposite sign.
    straight = warped + 2 * np.arctan(-WARP * np.sin(warped) / (1 + WARP * np.cos(warped)))
    position = straight / np.pi * (bins - 1)
    low = np.clip(position.astype(int), 0, bins - 2)
    weight = position - low
    interpolation = np.zeros((bins, _GRID))
    np.add.at(interpolation, (low, np.arange(_GRID)), 1 - weight)
    np.add.at(interpolation, (low + 1, np.arange(_GRID)), weight)
    cosines = np.cos(np.outer(warped, np.arange(1, order + 1)))
    return (
        interpolation @ cosines / _GRID
    )  # log power is twice the log-amplitude, and a coefficient twice the mean
