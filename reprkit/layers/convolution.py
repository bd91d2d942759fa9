"""Residual convolutions with GroupNorm: no statistics over the batch, so ranks and masks change nothing."""

from __future__ import annotations

from torch import Tensor, nn

from reprkit.errors import BuildError
from reprkit.layers.dense import activation


def group_norm(width: int) -> nn.GroupNorm:
    """GroupNorm (Wu and He 2018, arXiv 1803.08494) with up to 32 groups of at least four channels.

    A group of one channel on a map of 1 x 1 would be normalised to nothing.
    """
    most = max(1, min(32, width // 4))
    return nn.GroupNorm(max(groups for groups in range(1, most + 1) if width % groups == 0), width)


class Residual(nn.Module):
    """Norm, activation, 3 x 3 convolution, twice, around a skip (He et al. 2016, arXiv 1603.05027)."""

    def __init__(self, width: int, activation_name: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            group_norm(width),
            activation(activation_name),
            nn.Conv2d(width, width, 3, padding=1),
            group_norm(width),
            activation(activation_name),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b d h w) to (b d h w)."""
        return x + self.body(x)


def downsampled_size(height: int, width: int, depth: int, part: str) -> tuple[int, int]:
    """Rows and columns that ``depth`` halvings leave of an image.

    Raises:
        BuildError: they do not divide it.
    """
    factor = 2**depth
    if height % factor or width % factor:
        most = max(each for each in range(depth) if height % 2**each == 0 and width % 2**each == 0)
        raise BuildError(
            f"{part} with depth={depth} needs sizes that {factor} divides; images are {height} x {width}: "
            f"use depth={most}, or pad to {-(-height // factor) * factor} x {-(-width // factor) * factor}"
        )
    return height // factor, width // factor
