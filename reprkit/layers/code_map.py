"""The tokens of a code as a map of rows and columns."""

from __future__ import annotations

import math

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from reprkit.layers.resample_tokens import zero_invalid_tokens
from reprkit.models.grid import align
from reprkit.types import Features


def code_to_map(
    features: Features, cells: tuple[int, int], *, fixed: bool = False
) -> Float[Tensor, "b d h w"]:
    """Lay out the tokens of a code on its own grid of rows and columns; without one, or if ``fixed``, on ``cells``.

    Another number of tokens than cells is resampled by nearest neighbor.
    """
    features = zero_invalid_tokens(features)
    grid = None if fixed or features.positions is not None else features.grid
    if grid is None or len(grid) != 2 or math.prod(grid) != features.x.shape[1]:
        grid = cells
    x, _ = align(features, math.prod(grid), grid)
    return rearrange(x, "b (h w) d -> b d h w", h=grid[0])
