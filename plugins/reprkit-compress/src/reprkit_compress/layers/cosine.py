"""The cosine transform of blocks of pixels and colors, as weights of a convolution."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Luma and two differences of colors, orthonormal.
_COLORS = (
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)),
    (1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)),
)


def cosine_basis(channels: int, side: int) -> Float[Tensor, "k c i j"]:
    """Return the orthonormal basis of blocks of ``side`` x ``side`` pixels: means of colors, then frequencies of each.

    The cosine transform of type II in each direction, times luma and two differences of colors where there are three channels.
    """
    place = torch.arange(side, dtype=torch.float64)
    wave = torch.cos((2 * place[None] + 1) * place[:, None] * math.pi / (2 * side)) * math.sqrt(2 / side)
    wave[0] /= math.sqrt(2)
    colors = (
        torch.tensor(_COLORS, dtype=torch.float64)
        if channels == 3
        else torch.eye(channels, dtype=torch.float64)
    )
    basis = torch.einsum("ui,vj,yc->uvycij", wave, wave, colors)
    order = (place[:, None] + place[None]).flatten().argsort(stable=True)
    blocks = basis.reshape(side * side, channels, channels, side, side)[
        order
    ].float()  # (frequency, color, ...)
    return torch.cat([blocks[0], blocks[1:].movedim(1, 0).flatten(0, 1)])


class Bottleneck(nn.Module):
    """A convolution of 3 to fewer channels and one back, with a residual connection; it starts as the identity."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        last = nn.Conv2d(inner, width, 1)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.body = nn.Sequential(nn.Conv2d(width, inner, 3, padding=1), nn.LeakyReLU(0.1), last)

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """Map (b d h w) to (b d h w)."""
        return x + self.body(x)
