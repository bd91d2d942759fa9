"""Discriminators of waveforms, on the folded waveform and on spectrograms."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from reprkit_audio.objectives.spectral import magnitudes

_SLOPE = 0.1  # of the leaky rectifier
SPECTRAL_SHARE = 0.1  # weight of the spectral critics in every loss, as in Vocos

# Output of one critic: scores, flat (b k), and the layers' feature maps, for feature matching.
Verdict = tuple[Tensor, list[Tensor]]


class PeriodCritic(nn.Module):
    """Convolutions along the columns of the waveform folded by a period (Kong et al. 2020, arXiv 2010.05646, section 2.3)."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, width, 4 * width, 16 * width, 32 * width, 32 * width]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(in_dim, out_dim, (5, 1), (3 if number < 4 else 1, 1), (2, 0)))
            for number, (in_dim, out_dim) in enumerate(itertools.pairwise(widths))
        )
        self.last = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Float[Tensor, "b t"]) -> Verdict:
        """Return scores and feature maps of waveforms."""
        padded = F.pad(wave, (0, -wave.shape[1] % self.period))
        return run_critic(padded.unflatten(1, (-1, self.period)).unsqueeze(1), self.layers, self.last)


class SpectrumCritic(nn.Module):
    """Convolutions over the magnitudes at one resolution (Jang et al. 2021, UnivNet, arXiv 2106.07889, section 3.2)."""

    def __init__(self, window: int, width: int) -> None:
        super().__init__()
        self.window = window
        shapes = [((3, 9), (1, 1), (1, 4)), *[((3, 9), (1, 2), (1, 4))] * 3, ((3, 3), (1, 1), (1, 1))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(width if number else 1, width, kernel, stride, padding))
            for number, (kernel, stride, padding) in enumerate(shapes)
        )
        self.last = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, wave: Float[Tensor, "b t"]) -> Verdict:
        """Return scores and feature maps of waveforms."""
        return run_critic(magnitudes(wave, self.window).unsqueeze(1), self.layers, self.last)


def run_critic(x: Tensor, layers: nn.ModuleList, last: nn.Module) -> Verdict:
    """Apply a stack of convolutions; returns scores and all feature maps."""
    maps = []
    for layer in layers:
        x = F.leaky_relu(layer(x), _SLOPE)
        maps.append(x)
    scores = last(x)
    return scores.flatten(1), [*maps, scores]


class Critic(nn.Module):
    """All critics: one per period and one per window."""

    def __init__(self, periods: tuple[int, ...], windows: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.periods = nn.ModuleList(PeriodCritic(period, width) for period in periods)
        self.spectra = nn.ModuleList(SpectrumCritic(window, width) for window in windows)
        self.shares = [1 / len(periods)] * len(periods)
        self.shares += [SPECTRAL_SHARE / len(windows)] * len(windows)

    def forward(self, wave: Float[Tensor, "b t"]) -> list[Verdict]:
        """Return the output of each critic, in the order of ``shares``, their weights."""
        return [critic(wave) for critic in (*self.periods, *self.spectra)]


def hinge_loss(true: list[Verdict], generated: list[Verdict], shares: list[float]) -> Float[Tensor, " b"]:
    """Hinge loss of the critics: recorded above 1, generated below -1 (Lim and Ye 2017, arXiv 1705.02894), per example (b)."""
    each = [
        share * (F.relu(1 - real[0]).mean(1) + F.relu(1 + fake[0]).mean(1))
        for share, real, fake in zip(shares, true, generated, strict=True)
    ]
    return torch.stack(each).sum(0)


def generator_loss(generated: list[Verdict], shares: list[float]) -> Float[Tensor, " b"]:
    """Loss of the generator as in Vocos: the hinge of the critics' scores below 1, per example (b)."""
    each = [share * F.relu(1 - fake[0]).mean(1) for share, fake in zip(shares, generated, strict=True)]
    return torch.stack(each).sum(0)


def feature_matching_loss(
    true: list[Verdict], generated: list[Verdict], shares: list[float]
) -> Float[Tensor, " b"]:
    """Feature matching loss: mean absolute difference of every map (Kong et al. 2020, eq. 6), summed over maps (b)."""
    each = []
    for share, real, fake in zip(shares, true, generated, strict=True):
        differences = [
            (one.detach() - two).abs().flatten(1).mean(1) for one, two in zip(real[1], fake[1], strict=True)
        ]
        each.append(share * torch.stack(differences).sum(0))
    return torch.stack(each).sum(0)
