"""The mel scale of Slaney's Auditory Toolbox, and its triangular filters."""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

# Hz a mel below 1 kHz, and the factor of the frequency a mel above: 27 mels are a factor of 6.4.
_LINEAR, _BREAK, _STEP = 200 / 3, 1000.0, math.log(6.4) / 27


def to_mel(hertz: float) -> float:
    """Convert a frequency to mels: linear up to 1 kHz, which is 15 mels, logarithmic above."""
    return hertz / _LINEAR if hertz < _BREAK else _BREAK / _LINEAR + math.log(hertz / _BREAK) / _STEP


def from_mel(mel: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Convert mels to frequencies in Hz: the inverse of ``to_mel``."""
    break_mel = _BREAK / _LINEAR
    return torch.where(mel < break_mel, mel * _LINEAR, _BREAK * ((mel - break_mel) * _STEP).exp())


_made: dict[tuple[int, int, int, str], Tensor] = {}


def mel_filters(
    frequencies: int, bands: int, rate: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "f c"]:
    """Triangular filters, equally spaced on the mel scale from 0 Hz to half the rate, each of unit area over Hz.

    The defaults of librosa's ``filters.mel`` (Slaney 1998, Auditory Toolbox, version 2), transposed; torchaudio's
    ``melscale_fbanks`` with norm and scale "slaney".  They are computed once for a device.

    Args:
        frequencies: of the spectrum, n_fft / 2 + 1 (f).
        bands: number of filters (c); a filter that lies between two frequencies is zero everywhere, with a warning.
        rate: samples a second.
        device: of the result.
    """
    key = (frequencies, bands, rate, str(device))
    if key in _made:
        return _made[key]
    filters = _triangles(frequencies, bands, rate)
    # One of torch's FakeTensorMode has no values, and ends with its mode.
    if type(filters) is not Tensor:
        return filters.to(device)
    empty = int((filters == 0).all(0).sum())
    if empty:
        warnings.warn(
            f"{empty} of {bands} mel filters are zero, since they lie between two of {frequencies} frequencies: "
            "choose fewer bands or a larger n_fft",
            stacklevel=3,
        )
    return _made.setdefault(key, filters.to(device))


def _triangles(frequencies: int, bands: int, rate: int) -> Tensor:
    measured = torch.linspace(0, rate / 2, frequencies)[:, None]
    corners = from_mel(torch.linspace(0, to_mel(rate / 2), bands + 2))
    widths = corners.diff()
    rising = (measured - corners[:-2]) / widths[:-1]
    falling = (corners[2:] - measured) / widths[1:]
    return torch.minimum(rising, falling).clamp(min=0) * (2 / (corners[2:] - corners[:-2]))
