"""How far two waveforms are apart to the ear: differences of their spectra at several resolutions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit_audio.frontends.log_mel import SCALE, LogMel


def mel_difference(
    front: LogMel, made: Float[Tensor, "b t"], true: Float[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Mean absolute difference of the logarithms in mel bands, nats (Kong et al. 2020, arXiv 2010.05646, eq. 5)."""
    return SCALE * (front.frames(made) - front.frames(true)).abs().mean((1, 2))


def magnitudes(wave: Float[Tensor, "b t"], window: int) -> Float[Tensor, "b f n"]:
    """Magnitudes of the short-time transform: a Hann window of so many samples, moved by a quarter, mirrored at the ends."""
    hann = torch.hann_window(window, device=wave.device)
    complex_ = torch.stft(wave, window, window // 4, window=hann, pad_mode="reflect", return_complex=True)
    # The root's slope at 0 is not finite.
    return torch.view_as_real(complex_).square().sum(-1).add(1e-7).sqrt()


def stft_difference(
    made: Float[Tensor, "b t"], true: Float[Tensor, "b t"], windows: tuple[int, ...]
) -> tuple[Float[Tensor, " b"], tuple[Tensor, Tensor]]:
    """The two parts of the multi-resolution loss (Yamamoto et al. 2020, arXiv 1910.11480, eqs. 4 to 6).

    Returns:
        Mean absolute difference of log-magnitudes (b), mean over the windows; and spectral convergence as (norms of
        differences, norms of the true), summed over examples and windows, so that silent examples do not divide by 0.
    """
    logs, apart, norms = [], [], []
    for window in windows:
        one, two = magnitudes(made, window), magnitudes(true, window)
        logs.append((one.log() - two.log()).abs().mean((1, 2)))
        apart.append((one - two).flatten(1).norm(dim=1).sum())
        norms.append(two.flatten(1).norm(dim=1).sum())
    return torch.stack(logs).mean(0), (torch.stack(apart).sum(), torch.stack(norms).sum().detach())
