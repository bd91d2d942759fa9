"""A differentiable estimate of the size of a picture under JPEG."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

_SIDE = 8
# Steps of luma at quality 50 (ITU-T T.81, table K.1); colors have the steps of table K.2.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA = (
    (17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99),
)  # fmt: skip
_RGB_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def dct_rate(pictures: Float[Tensor, "b h w c"], quality: int) -> Float[Tensor, " b"]:
    """Return the sum of log(1 + |c| / step) over the coefficients c of 8 x 8 blocks, nats an example.

    ``step`` is that of JPEG's tables at this quality; colors are at half resolution.

    Args:
        pictures: gray or RGB, in [0, 1].
        quality: 1 to 100.
    """
    x = rearrange(pictures, "b h w c -> b c h w") * 255 - 128
    if x.shape[1] == 1:
        return _block_rate(x, _steps(_LUMA, quality, x))
    ycc = torch.einsum("bchw,yc->byhw", x, torch.tensor(_RGB_TO_YCC, device=x.device, dtype=x.dtype))
    colors = F.avg_pool2d(ycc[:, 1:], 2, ceil_mode=True)
    chroma = torch.full((_SIDE, _SIDE), 99.0)
    chroma[:4, :4] = torch.tensor(_CHROMA)
    return _block_rate(ycc[:, :1], _steps(_LUMA, quality, x)) + _block_rate(
        colors, _steps(chroma.tolist(), quality, x)
    )


def _steps(table: object, quality: int, like: Tensor) -> Float[Tensor, "8 8"]:
    """Return the steps at a quality, by the formula of the Independent JPEG Group."""
    factor = 50 / quality if quality < 50 else 2 - quality / 50
    steps = torch.tensor(table, dtype=like.dtype, device=like.device) * factor
    return steps.clamp(1, 255)


def _block_rate(x: Float[Tensor, "b c h w"], steps: Float[Tensor, "8 8"]) -> Float[Tensor, " b"]:
    height, width = x.shape[2:]
    x = F.pad(x, (0, -width % _SIDE, 0, -height % _SIDE), mode="replicate")
    blocks = rearrange(x, "b c (h i) (w j) -> b (c h w) i j", i=_SIDE, j=_SIDE)
    place, frequency = torch.meshgrid(torch.arange(_SIDE), torch.arange(_SIDE), indexing="ij")
    basis = torch.cos((2 * place + 1) * frequency * math.pi / (2 * _SIDE)) / 2
    basis[:, 0] /= math.sqrt(2)
    basis = basis.to(x)  # (place, frequency), orthonormal
    coefficients = torch.einsum("bnij,iu,jv->bnuv", blocks, basis, basis)
    return (coefficients.abs() / steps).log1p().sum((1, 2, 3))
