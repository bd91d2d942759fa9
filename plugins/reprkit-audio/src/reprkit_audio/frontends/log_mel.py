"""Log-mel spectrogram."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import PartArgumentError
from reprkit.registry.constraints import Count
from reprkit_audio.frontends.base import FrontEnd, Sound, check_waveform
from reprkit_audio.frontends.mel import from_mel, mel_filters, to_mel

# Smaller magnitudes count as silence, as in HiFi-GAN.
FLOOR = 1e-5
# Mean and standard deviation over speech of the logarithms (four speakers of fillets-ng, level as recorded).
MEAN, SCALE = -5.3, 3.0


@dataclass(frozen=True, kw_only=True)
class LogMel(FrontEnd):
    """Logarithm of the magnitude in mel bands (Slaney's scale and norm), HiFi-GAN's settings at 16 kHz.

    Kong et al. 2020, arXiv 2010.05646: natural logarithm of magnitudes, floored at 1e-5; here standardized by a
    fixed mean and scale, so that frames of speech have about zero mean and unit variance.  Frame i is centered on sample
    (i + 1/2) hop, so t frames are exactly t * hop samples, and windows of frames and samples correspond.

    Attributes:
        n_fft: samples of the Hann window and its transform.
        bands: mel bands from 0 Hz to half the rate (c).
    """

    name: ClassVar[str] = "log-mel"
    n_fft: Annotated[int, Ge(2), Le(2**20)] = 1024
    bands: Count = 80

    def __post_init__(self) -> None:
        """Check the settings: no window shorter than the hop, no more bands than frequencies."""
        super().__post_init__()
        if self.n_fft < self.hop or (self.n_fft - self.hop) % 2:
            raise PartArgumentError(
                f"front end log-mel: n_fft={self.n_fft} must be hop={self.hop} or more, by an even number"
            )
        if self.bands > self.n_fft // 2:
            raise PartArgumentError(
                f"front end log-mel: bands={self.bands} must be at most half of n_fft={self.n_fft}"
            )

    @property
    def channels(self) -> int:
        """Number of bands."""
        return self.bands

    def count(self, samples: int) -> int:
        """Number of frames of ``samples`` samples; the last hop is padded with silence."""
        return -(-samples // self.hop)

    def analyze(self, wave: Float[Tensor, " samples"]) -> Sound:
        """Compute the frames (t bands); see ``FrontEnd.analyze``."""
        return Sound(frames=self.frames(check_waveform(wave)[None])[0])

    def frames(self, waves: Float[Tensor, "b samples"]) -> Float[Tensor, "b t c"]:
        """Compute the frames of waveforms of equal length, on their device, with gradients."""
        return self.normalize(self.mel_filters(waves.device).T.matmul(self.magnitudes(waves)).transpose(1, 2))

    def magnitudes(self, waves: Float[Tensor, "b samples"]) -> Float[Tensor, "b f t"]:
        """Magnitudes of the short-time Fourier transform, n_fft / 2 + 1 frequencies per frame."""
        margin = (self.n_fft - self.hop) // 2
        padded = F.pad(waves, (margin, margin + -waves.shape[-1] % self.hop))
        window = torch.hann_window(self.n_fft, device=waves.device)
        spectrum = torch.stft(padded, self.n_fft, self.hop, window=window, center=False, return_complex=True)
        # The square root's derivative at 0 is not finite.
        return torch.view_as_real(spectrum).square().sum(-1).add(1e-9).sqrt()

    def normalize(self, mel: Tensor) -> Tensor:
        """Convert magnitudes in mel bands to frames."""
        return (mel.clamp(min=FLOOR).log() - MEAN) / SCALE

    def denormalize(self, frames: Tensor) -> Tensor:
        """Convert frames to magnitudes in mel bands: the inverse of ``normalize`` above the floor."""
        return (frames * SCALE + MEAN).exp()

    def decibels(self, frames: Tensor) -> Tensor:
        """Convert frames to levels of the magnitudes in mel bands, dB."""
        return 20 / math.log(10) * self.denormalize(frames).log()

    def band_frequencies(self) -> Float[Tensor, " m"]:
        """The filters' centers."""
        bands = torch.arange(1, self.bands + 1, dtype=torch.float64) / (self.bands + 1)
        return from_mel(bands * to_mel(self.rate / 2)).float()

    def to_levels(self, frames: Float[Tensor, "*n c"]) -> Float[Tensor, "*n m"]:
        """Convert frames to the natural logarithms of the magnitude in each band."""
        return frames * SCALE + MEAN

    def from_levels(self, levels: Float[Tensor, "*n m"]) -> Float[Tensor, "*n c"]:
        """Convert the logarithms to frames: the inverse of ``to_levels``."""
        return (levels - MEAN) / SCALE

    def mel_filters(self, device: torch.device | str = "cpu") -> Float[Tensor, "f c"]:
        """The mel filters, columns (n_fft / 2 + 1, bands)."""
        return mel_filters(self.n_fft // 2 + 1, self.bands, self.rate, device)
