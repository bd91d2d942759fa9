"""Fixed sinusoidal position embeddings in one and two dimensions; data may be longer than in training."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sinusoidal_positions(positions: Int[Tensor, "*n"], width: int) -> Float[Tensor, "*n d"]:
    """Compute sinusoidal position embeddings of a sequence, float32 in [-1, 1] (Vaswani et al. 2017, section 3.5).

    ``width`` is arbitrary: an odd one drops the last cosine.
    """
    half = (width + 1) // 2
    order = torch.arange(half, device=positions.device, dtype=torch.float32) / half
    angles = positions.unsqueeze(-1).float() * torch.exp(order * -math.log(10_000))
    return torch.cat([angles.sin(), angles.cos()], -1)[..., :width]


def sinusoidal_positions_2d(grid: tuple[int, int], width: int) -> Float[Tensor, "n d"]:
    """Compute sinusoidal position embeddings of a grid's cells in reading order: half the width each for row and column.

    As in the masked autoencoder (He et al. 2021, arXiv 2111.06377, appendix A.1).
    """
    rows, columns = grid
    half = (width + 1) // 2
    row = sinusoidal_positions(torch.arange(rows), half)[:, None].expand(rows, columns, half)
    column = sinusoidal_positions(torch.arange(columns), half)[None].expand(rows, columns, half)
    return torch.cat([row, column], -1).flatten(0, 1)[:, :width]
