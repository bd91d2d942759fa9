"""What encoders and decoders of pictures of any size share: the size of the last map, and tokens to maps."""

from __future__ import annotations

import math

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Features, Signature
from reprkit.errors import DataError
from reprkit.interfaces import require
from reprkit.layers.convolution import downsampled_size
from reprkit.layers.field_checks import image_shape, require_token_count
from reprkit.layers.resample_tokens import zero_invalid_tokens
from reprkit.models.grid import align
from reprkit.types import Batch


def map_size(batch: Batch, depth: int, part: str) -> tuple[int, int]:
    """Return rows and columns of the map after ``depth`` halvings of the pictures of a batch.

    Raises:
        DataError: 2^depth does not divide the pictures' size.
    """
    height, width = batch["x"].shape[1:3]
    step = 2**depth
    if height % step or width % step:
        raise DataError(
            f"{part} with depth={depth} reads pictures whose sides are multiples of {step}, and these are {height} x {width}: "
            f"pad them to {-(-height // step) * step} x {-(-width // step) * step}"
        )
    return height // step, width // step


def stage_widths(width: int, depth: int, least: int = 32) -> list[int]:
    """Return the channels of the maps of ``blocks``, from the last one to the first: halved each time, at least ``least``."""
    require(depth >= 1, f"a transform has at least one halving, and depth is {depth}")
    return [max(width >> step, min(width, least)) for step in range(depth)]


class TokensToMap(nn.Module):
    """Lay out the tokens of a code as a map (b d h w), of any size where the code's grid is one.

    A code with another number of tokens than the data's map has cells is mapped to it by a linear layer over all its tokens, as in
    the core's decoder ``conv``; only then is the size of pictures fixed.

    Args:
        width: channels of the map.
        depth: halvings from the picture to the map.
        part: the decoder's name in errors.
        data: the signature of the data, field ``x``.
        tokens: number of tokens of the code.

    Attributes:
        in_dim: width of the code.

    Raises:
        BuildError: the data is neither an image nor a map of symbols, its size does not fit, or the code's length varies.
    """

    def __init__(self, width: int, depth: int, part: str, *, data: Signature, tokens: int | None) -> None:
        super().__init__()
        height, length, _ = image_shape(data["x"], part)
        self.cells = downsampled_size(height, length, depth, part)
        self.tokens = require_token_count(tokens, part)
        count = math.prod(self.cells)
        self.in_dim = width if self.tokens == count else max(8, 4 * width // self.tokens)
        self.join = None if self.tokens == count else nn.Linear(self.tokens * self.in_dim, count * width)

    def forward(self, features: Features) -> Float[Tensor, "b d h w"]:
        """Return the map."""
        features = zero_invalid_tokens(features)
        grid = features.grid
        if self.join is None and grid is not None and len(grid) == 2 and features.positions is None:
            return rearrange(features.x, "b (h w) d -> b d h w", h=grid[0])
        x, _ = align(features, self.tokens)
        x = x if self.join is None else self.join(x.flatten(1))
        return rearrange(
            x.reshape(len(x), math.prod(self.cells), -1), "b (h w) d -> b d h w", h=self.cells[0]
        )
