"""Silence, clipping, level and band of waveforms (samples,), float32 in [-1, 1]."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.data.sound import RATE
from reprkit.errors import DataError

_SILENT = 1e-4  # largest value of a silent waveform, -80 dB


def is_silent(wave: Float[Tensor, " samples"]) -> bool:
    """Whether no value lies above -80 dB of full scale; so is a waveform without samples."""
    return not len(wave) or float(wave.abs().max()) < _SILENT


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
    if is_silent(wave):
        raise DataError("it is silent")
    hop = max(1, rate // 100)
    squares = torch.nn.functional.pad(wave.double().square(), (0, -len(wave) % hop)).reshape(-1, hop).sum(1)
    energy = squares + torch.nn.functional.pad(squares[1:], (0, 1))  # frame i: hops i and i + 1
    loud = (energy > energy.max() * 10 ** (-floor / 10)).nonzero().flatten()
    extra = round(margin * rate)
    first = max(0, int(loud[0]) * hop - extra)
    last = min(len(wave), (int(loud[-1]) + 2) * hop + extra)
    return wave[first:last]


def active_level(wave: Float[Tensor, " samples"], rate: int = RATE, *, floor: float = 30.0) -> float:
    """Level over the frames of 20 ms that are at most ``floor`` dB below the loudest one, so without pauses, dB of full scale."""
    hop = max(1, rate // 50)
    squares = torch.nn.functional.pad(wave.double().square(), (0, -len(wave) % hop)).reshape(-1, hop).mean(1)
    return float(10 * squares[squares >= squares.max() * 10 ** (-floor / 10)].mean().clamp(min=1e-20).log10())


def set_level(wave: Float[Tensor, " samples"], rate: int, target: float) -> Float[Tensor, " samples"]:
    """Scale a waveform to an active level in dB of full scale, less where its largest value would exceed 1."""
    gain = 10 ** ((target - active_level(wave, rate)) / 20)
    return wave * min(gain, 1 / float(wave.abs().max()))


class LevelMeter:
    """Active level (see ``active_level``) and peak of a waveform that comes in pieces.

    Attributes:
        peak: the largest value so far.
    """

    def __init__(self, rate: int) -> None:
        self._hop, self.peak = max(1, rate // 50), 0.0
        self._energies: list[Tensor] = []
        self._rest = torch.zeros(0)

    def add(self, piece: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
        """Measure the next piece, and return it."""
        joined = torch.cat([self._rest, piece.float()])
        whole = len(joined) - len(joined) % self._hop
        self._energies.append(joined[:whole].double().square().reshape(-1, self._hop).mean(1))
        self._rest = joined[whole:]
        self.peak = max(self.peak, float(piece.abs().max()) if len(piece) else 0.0)
        return piece

    def level(self, *, floor: float = 30.0) -> float:
        """The active level of all pieces, dB of full scale."""
        rest = torch.nn.functional.pad(self._rest.double().square(), (0, -len(self._rest) % self._hop))
        energies = torch.cat([*self._energies, rest.reshape(-1, self._hop).mean(1)])
        active = energies[energies >= energies.max() * 10 ** (-floor / 10)]
        return float(10 * active.mean().clamp(min=1e-20).log10())


def matching_gain(made: LevelMeter, source: LevelMeter) -> float:
    """The gain that brings a waveform to the active level of its source, or less, so that its peak does not exceed 1."""
    if made.peak == 0:
        return 1.0
    return min(float(10 ** ((source.level() - made.level()) / 20)), 1 / made.peak)


def limit_band(wave: Float[Tensor, " samples"], rate: int, highest: float) -> Float[Tensor, " samples"]:
    """Remove frequencies above ``highest`` Hz: a Butterworth filter of order 10, forward and backward, so without delay."""
    from scipy.signal import butter, sosfiltfilt

    if highest >= 0.49 * rate:
        return wave
    sections = butter(10, highest, fs=rate, output="sos")
    padding = min(len(wave) - 1, 3 * (2 * len(sections) + 1))
    return torch.from_numpy(sosfiltfilt(sections, wave.double().numpy(), padlen=padding).copy()).float()


def clipped_share(wave: Float[Tensor, " samples"]) -> float:
    """Share of samples in runs of three or more at the waveform's largest value: about 0 in natural recordings."""
    if is_silent(wave):
        return 0.0
    size = wave.abs()
    at_peak = torch.nn.functional.pad((size >= 0.999 * size.max()).float(), (2, 2))
    starts = at_peak.unfold(0, 3, 1).sum(1) == 3  # runs of three that begin here
    inside = torch.nn.functional.max_pool1d(starts.float()[None], 3, 1)[0]
    return float(inside.mean())
