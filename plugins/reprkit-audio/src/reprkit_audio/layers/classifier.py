"""Classifier of sequences, for example by speaker."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reprkit_audio.layers.convolution import ChannelNorm, Convolution
from reprkit_audio.layers.frames import Mask, masked_mean, time_last


class Classifier(nn.Module):
    """Convolutions over tokens or frames, mean over time, and a linear map: (b n d) to a logit per class (b k)."""

    def __init__(self, in_dim: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [in_dim] + [width] * depth
        self.layers = nn.ModuleList(Convolution(widths[index], width, 3) for index in range(depth))
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(depth))
        self.last = nn.Linear(width, classes)

    def forward(self, z: Float[Tensor, "b n d"], mask: Mask) -> Float[Tensor, "b k"]:
        """Return the logit of each class."""
        x = time_last(z.to(self.last.weight.dtype))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x, mask)), 0.2)
        return self.last(masked_mean(x, mask))
