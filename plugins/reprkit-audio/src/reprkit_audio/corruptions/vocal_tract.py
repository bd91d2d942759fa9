"""Random perturbation of the voice: the spectrum's frequency axis is stretched, as by another vocal tract, and equalized."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from reprkit import Signature
from reprkit.corruptions.base import ElementCorruption, draw_uniform
from reprkit.errors import BuildError
from reprkit.registry.constraints import NonNegative
from reprkit_audio.frontends import FrontEnd, frontend

_DECIBELS = math.log(10) / 20  # of a natural logarithm of magnitudes
_GAINS = 6  # frequencies at which the gain of the filter is drawn


class VocalTract(ElementCorruption):
    """Perturb the voice of each example: stretch the frequency axis of its spectral envelope, and filter it.

    Formants are moved by a random factor, which stays the same over the utterance: the formants' positions in a code of the
    perturbed frames are then not the speaker's own.  Vocal tract length perturbation (Jaitly and Hinton 2013, ICML workshop
    WDLASL) has one factor; formant shift and random equalizer before the content encoder: NANSY (Choi et al. 2021, arXiv
    2110.14513, section 3.1).

    The factor is drawn at each of ``knots`` frequencies, evenly spaced on the mel scale from 0 to half the rate, independently
    and log-uniformly, and its logarithm is interpolated linearly between them.  The filter's gain is drawn at six
    such frequencies, uniformly.  The sequence's ``form`` must name a front end, which converts frames to the levels of bands.
    ``hit`` is True at every valid element.

    Args:
        ratio: the largest factor, from 1 to 2; the smallest is 1 / ``ratio``.
        knots: frequencies with a factor of their own; 1: one factor for all.
        gain: the largest gain in dB, the smallest is its negative; 0 for no filter.  An encoder that begins with instance norm does
            not see it.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not a sequence of frames of a front end.
    """

    kinds = ("sequence",)
    advice = "it perturbs the spectra of speech: frames of data sets such as speech, asterisk, sample-speech"

    def __init__(
        self,
        ratio: Annotated[float, Gt(1), Le(2)] = 1.25,
        *,
        knots: Annotated[int, Ge(1), Le(16)] = 1,
        gain: NonNegative = 0.0,
        data: Signature | None = None,
    ) -> None:
        super().__init__(data)
        form = None if self.field is None else self.field.form
        if form is None:
            raise BuildError(
                "corruption vocal-tract needs to know the front end of the frames, and the data's field has no form\n"
                f"  {self.advice}"
            )
        self.ratio, self.knots, self.gain = ratio, knots, float(gain)
        self.front: FrontEnd = frontend(form)

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose every element."""
        return torch.ones_like(x, dtype=torch.bool)

    def replacement(self, x: Float[Tensor, "b t c"], generator: torch.Generator | None) -> Tensor:
        """Return the frames of the perturbed voice, one draw for each example."""
        factors = math.log(self.ratio) * (2 * draw_uniform((len(x), self.knots), x, generator) - 1)
        levels = stretch_levels(self.front, self.front.to_levels(x.float()), factors)
        if self.gain:
            gains = self.gain * _DECIBELS * (2 * draw_uniform((len(x), _GAINS), x, generator) - 1)
            levels = levels + _at_bands(self.front, gains).unsqueeze(1)
        return self.front.from_levels(levels).to(x)


def stretch_levels(
    front: FrontEnd, levels: Float[Tensor, "b t m"], factors: Float[Tensor, "b k"]
) -> Float[Tensor, "b t m"]:
    """Move what is at frequency f to f times its factor; beyond the last band its level is repeated.

    Args:
        front: whose bands the levels belong to.
        levels: of bands, by ``front.to_levels``.
        factors: natural logarithms of the factors at k frequencies, evenly spaced on the mel scale.
    """
    frequencies = front.band_frequencies().to(levels)
    wanted = frequencies * (-_at_bands(front, factors)).exp()  # where each band's level comes from (b m)
    high = torch.searchsorted(frequencies, wanted.contiguous()).clamp(1, len(frequencies) - 1)
    below, above = frequencies[high - 1], frequencies[high]
    weight = ((wanted - below) / (above - below)).clamp(0, 1).unsqueeze(1)
    low, top = ((high - shift).unsqueeze(1).expand_as(levels) for shift in (1, 0))
    return levels.gather(-1, low) * (1 - weight) + levels.gather(-1, top) * weight


def _at_bands(front: FrontEnd, values: Float[Tensor, "b k"]) -> Float[Tensor, "b m"]:
    """Interpolate values at k frequencies, evenly spaced on the mel scale up to half the rate, linearly to the bands."""
    frequencies = front.band_frequencies().to(values)
    if values.shape[1] == 1:
        return values.expand(-1, len(frequencies))
    mel = torch.log1p(frequencies / 700) / math.log1p(front.rate / 2 / 700)
    place = (mel * (values.shape[1] - 1)).clamp(0, values.shape[1] - 1)
    low = place.long().clamp(max=values.shape[1] - 2)
    weight = place - low
    return values[:, low] * (1 - weight) + values[:, low + 1] * weight
