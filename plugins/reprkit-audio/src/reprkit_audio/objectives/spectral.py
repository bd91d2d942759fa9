"""Spectral losses of waveforms, at several resolutions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit_audio.frontends.log_mel import SCALE, LogMel


def mel_difference(
    front: LogMel, generated: Float[Tensor, "b t"], true: Float[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Mean absolute difference of the logarithms in mel bands, nats (Kong et al. 2020, arXiv 2010.05646, eq. 5)."""
    return SCALE * (front.frames(generated) - front.frames(true)).abs().mean((1, 2))


def magnitudes(wave: Float[Tensor, "b t"], window: int) -> Float[Tensor, "b f n"]:
    """Magnitudes of the short-time Fourier transform: Hann window, hop of a quarter window, mirrored ends."""
    hann = torch.hann_window(window, device=wave.device)
    spectrum = torch.stft(wave, window, window // 4, window=hann, pad_mode="reflect", return_complex=True)
    # The square root's derivative at 0 is not finite.
    return torch.view_as_real(spectrum).square().sum(-1).add(1e-7).sqrt()


def stft_difference(
    generated: Float[Tensor, "b t"], true: Float[Tensor, "b t"], windows: tuple[int, ...]
) -> tuple[Float[Tensor, " b"], tuple[Tensor, Tensor]]:
    """The two parts of the multi-resolution loss (Yamamoto et al. 2020, arXiv 1910.11480, eqs. 4 to 6).

    Returns:
        Mean absolute difference of log-magnitudes (b), mean over the windows; and spectral convergence as (norms of
        differences, norms of the true), summed over examples and windows, so that silent examples do not divide by 0.
    """
    logs, differences, norms = [], [], []
    for window in windows:
        one, two = magnitudes(generated, window), magnitudes(true, window)
        logs.append((one.log() - two.log()).abs().mean((1, 2)))
        differences.append((one - two).flatten(1).norm(dim=1).sum())
        norms.append(two.flatten(1).norm(dim=1).sum())
    return torch.stack(logs).mean(0), (torch.stack(differences).sum(), torch.stack(norms).sum().detach())
