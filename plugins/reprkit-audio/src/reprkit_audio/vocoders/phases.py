"""Phases that are consistent with the magnitudes of a short-time Fourier transform."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def find_phases(
    magnitudes: Float[Tensor, "f t"],
    angles: Complex[Tensor, "f t"],
    *,
    n_fft: int,
    hop: int,
    steps: int,
    momentum: float,
) -> Float[Tensor, " samples"]:
    """Fast Griffin-Lim algorithm (Perraudin et al. 2013, "A fast Griffin-Lim algorithm", WASPAA, algorithm 2).

    Each step makes a waveform of the spectrum, and takes over the phases of that waveform's own spectrum, from which a share of the
    spectrum of the step before is subtracted.  The result equals torchaudio's ``griffinlim``, whose share is momentum / (1 +
    momentum), too.

    Args:
        magnitudes: n_fft / 2 + 1 frequencies (f) of t frames, centered on multiples of the hop.
        angles: the phases to start from, as factors of the magnitudes.
        n_fft: samples of the Hann window.
        hop: samples between two frames.
        steps: iterations.
        momentum: from 0, the algorithm of Griffin and Lim (1984), to below 1.

    Returns:
        (t - 1) * hop samples.
    """
    window = torch.hann_window(n_fft, device=magnitudes.device)
    share = momentum / (1 + momentum)
    before: Tensor | None = None
    for _ in range(steps):
        wave = torch.istft(magnitudes * angles, n_fft, hop, window=window)
        spectrum = torch.stft(wave, n_fft, hop, window=window, pad_mode="reflect", return_complex=True)
        angles = spectrum if before is None or not share else spectrum - share * before
        angles = angles / (angles.abs() + 1e-16)
        before = spectrum
    return torch.istft(magnitudes * angles, n_fft, hop, window=window)
