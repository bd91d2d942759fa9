"""Residual convolutions with GroupNorm: no statistics over the batch, so results depend on no other example."""

from __future__ import annotations

from torch import Tensor, nn

from reprkit.errors import BuildError
from reprkit.layers.dense import activation


def group_norm(width: int) -> nn.GroupNorm:
    """Create a GroupNorm (Wu and He 2018, arXiv 1803.08494) with up to 32 groups of at least four channels.

    A group of one channel on a 1 x 1 map would be normalized to zero.
    """
    most = max(1, min(32, width // 4))
    return nn.GroupNorm(max(groups for groups in range(1, most + 1) if width % groups == 0), width)


class Residual(nn.Module):
    """Twice norm, activation and 3 x 3 convolution, with a residual connection (He et al. 2016, arXiv 1603.05027)."""

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
        """Map (b d h w) to (b d h w)."""
        return x + self.body(x)


def downsampled_size(height: int, width: int, depth: int, part: str) -> tuple[int, int]:
    """Return the rows and columns of an image after ``depth`` halvings.

    Raises:
        BuildError: 2^depth does not divide the image's size.
    """
    factor = 2**depth
    if height % factor or width % factor:
        deepest = max(d for d in range(depth) if height % 2**d == 0 and width % 2**d == 0)
        raise BuildError(
            f"{part} with depth={depth} needs sizes divisible by {factor}; images are {height} x {width}: "
            f"use depth={deepest}, or pad to {-(-height // factor) * factor} x {-(-width // factor) * factor}"
        )
    return height // factor, width // factor
