"""ConvNeXt blocks along time."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class TimeConvolution(nn.Module):
    """Convolution along time (b t d) that keeps the length; padding is treated as zero, as beyond the ends."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_dim, out_dim, kernel, padding=kernel // 2, groups=groups)
        nn.init.trunc_normal_(self.conv.weight, std=0.02 if groups == 1 else kernel**-0.5)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t e"]:
        """(b t in_dim) to (b t out_dim)."""
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0)
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


class Block(nn.Module):
    """Depthwise convolution, norm, and a perceptron of three times the width, with a residual connection.

    Liu et al. 2022 (arXiv 2201.03545), with Vocos' sizes and initial weights (Siuzdak 2023, arXiv 2306.00814).
    """

    def __init__(self, width: int, kernel: int, depth: int) -> None:
        super().__init__()
        self.along = TimeConvolution(width, width, kernel, groups=width)
        self.norm = nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        for linear in (self.into, self.out):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.scale = nn.Parameter(torch.full((width,), 1 / depth))

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        """(b t width) to (b t width)."""
        residual = self.out(nn.functional.gelu(self.into(self.norm(self.along(x, mask)))))
        return x + self.scale * residual


class Blocks(nn.Module):
    """``depth`` blocks and a norm; with depth 0 the norm alone."""

    def __init__(self, width: int, kernel: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(width, kernel, depth) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        """(b t width) to (b t width)."""
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)
