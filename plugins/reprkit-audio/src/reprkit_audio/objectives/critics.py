"""Critics of waveforms: networks that tell recorded from made, by folding the wave or by its spectra."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from reprkit_audio.objectives.spectral import magnitudes

_SLOPE = 0.1  # of the leaky rectifier
SPECTRAL_SHARE = 0.1  # of the critics of spectra in every loss, as in Vocos

# Of one critic: its scores, flat (b k), and the maps of its layers, for feature matching.
Verdict = tuple[Tensor, list[Tensor]]


class PeriodCritic(nn.Module):
    """Every p-th sample in a column: convolutions along the columns (Kong et al. 2020, arXiv 2010.05646, section 2.3)."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, width, 4 * width, 16 * width, 32 * width, 32 * width]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(inside, outside, (5, 1), (3 if number < 4 else 1, 1), (2, 0)))
            for number, (inside, outside) in enumerate(itertools.pairwise(widths))
        )
        self.last = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Float[Tensor, "b t"]) -> Verdict:
        """Scores and maps of waveforms."""
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
        """Scores and maps of waveforms."""
        return run_critic(magnitudes(wave, self.window).unsqueeze(1), self.layers, self.last)


def run_critic(x: Tensor, layers: nn.ModuleList, last: nn.Module) -> Verdict:
    """A stack of convolutions, every map kept."""
    maps = []
    for layer in layers:
        x = F.leaky_relu(layer(x), _SLOPE)
        maps.append(x)
    scores = last(x)
    return scores.flatten(1), [*maps, scores]


class Critic(nn.Module):
    """All of them: one for each period, one for each window."""

    def __init__(self, periods: tuple[int, ...], windows: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.periods = nn.ModuleList(PeriodCritic(period, width) for period in periods)
        self.spectra = nn.ModuleList(SpectrumCritic(window, width) for window in windows)
        self.shares = [1 / len(periods)] * len(periods)
        self.shares += [SPECTRAL_SHARE / len(windows)] * len(windows)

    def forward(self, wave: Float[Tensor, "b t"]) -> list[Verdict]:
        """The verdict of each, in the order of ``shares``, their weights."""
        return [critic(wave) for critic in (*self.periods, *self.spectra)]


def hinge_loss(true: list[Verdict], made: list[Verdict], shares: list[float]) -> Float[Tensor, " b"]:
    """The critics' loss: recorded above 1, made below -1 (Lim and Ye 2017, arXiv 1705.02894), an example (b)."""
    each = [
        share * (F.relu(1 - real[0]).mean(1) + F.relu(1 + fake[0]).mean(1))
        for share, real, fake in zip(shares, true, made, strict=True)
    ]
    return torch.stack(each).sum(0)


def generator_loss(made: list[Verdict], shares: list[float]) -> Float[Tensor, " b"]:
    """The maker's loss as Vocos has it: the hinge of the critics' score under 1, an example (b)."""
    each = [share * F.relu(1 - fake[0]).mean(1) for share, fake in zip(shares, made, strict=True)]
    return torch.stack(each).sum(0)


def feature_matching_loss(
    true: list[Verdict], made: list[Verdict], shares: list[float]
) -> Float[Tensor, " b"]:
    """Feature matching: mean absolute difference of every map (Kong et al. 2020, eq. 6), summed over maps (b)."""
    each = []
    for share, real, fake in zip(shares, true, made, strict=True):
        apart = [
            (one.detach() - two).abs().flatten(1).mean(1) for one, two in zip(real[1], fake[1], strict=True)
        ]
        each.append(share * torch.stack(apart).sum(0))
    return torch.stack(each).sum(0)
