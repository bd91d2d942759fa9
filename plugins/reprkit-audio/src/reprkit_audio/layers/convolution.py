"""Convolutions over time that treat padding as zero, as beyond the ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit_audio.layers.frames import Mask, time_first, time_last, zero_padding


class Convolution(nn.Conv1d):
    """Convolution with as many frames out as in: (b c t) to (b d t); ``kernel`` is odd."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 5) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, x: Float[Tensor, "b c t"], mask: Mask = None) -> Float[Tensor, "b d t"]:
        """Convolve; output at padding is undefined."""
        return super().forward(zero_padding(x, mask))


class Bank(nn.Module):
    """Concatenated convolutions of several kernel sizes, and the input itself (Lee et al. 2017, arXiv 1610.03017).

    The first layer of Wang et al. 2017 (arXiv 1703.10135, section 3.1) and of both papers by Chou et al.; (b c t) to
    (b out_dim t).
    """

    def __init__(self, channels: int, width: int, kernels: Sequence[int] = (1, 3, 5, 7)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Convolution(channels, width, kernel) for kernel in kernels)
        self.out_dim = channels + width * len(kernels)

    def forward(self, x: Float[Tensor, "b c t"], mask: Mask) -> Float[Tensor, "b d t"]:
        """Concatenate the outputs and the input along channels."""
        return torch.cat([*(torch.relu(layer(x, mask)) for layer in self.layers), x], 1)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each frame, independent of padding and length: (b c t)."""

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b c t"]:
        """Normalize every frame."""
        return time_last(super().forward(time_first(x)))
