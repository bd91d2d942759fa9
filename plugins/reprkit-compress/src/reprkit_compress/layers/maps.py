"""What encoders and decoders of pictures of any size share: the size of the map, and tokens to maps."""

from __future__ import annotations

import math

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Features, Field, Signature
from reprkit.errors import BuildError, DataError
from reprkit.interfaces import require
from reprkit.layers.code_map import code_to_map
from reprkit.layers.convolution import downsampled_size
from reprkit.layers.field_checks import image_shape, require_token_count
from reprkit.layers.resample_tokens import zero_invalid_tokens
from reprkit.models.grid import align
from reprkit.types import Batch


def map_size(batch: Batch, side: int, part: str) -> tuple[int, int]:
    """Return rows and columns of cells of ``side`` x ``side`` pixels in the pictures of a batch.

    Raises:
        DataError: ``side`` does not divide the pictures' sides; ``part`` names the reader and its setting.
    """
    height, width = batch["x"].shape[1:3]
    if height % side or width % side:
        raise DataError(
            f"{part} reads pictures whose sides are multiples of {side}, and these are {height} x {width}: "
            f"pad them to {-(-height // side) * side} x {-(-width // side) * side}"
        )
    return height // side, width // side


def picture_cells(field: Field, part: str, setting: str, side: int) -> tuple[tuple[int, int], int]:
    """Return rows and columns of cells of ``side`` x ``side`` pixels in pictures of numbers, and their channels.

    Raises:
        BuildError: the data is no image, or ``side``, the value of ``setting``, does not divide its size.
    """
    height, width, channels = image_shape(field, part)
    if field.discrete:
        raise BuildError(f"{part} reads or makes pictures, and x is a map of symbols")
    if height % side or width % side:
        raise BuildError(f"{part}: {setting}={side} does not divide images of {height} x {width}")
    return (height // side, width // side), channels


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
        if self.join is None:
            return code_to_map(features, self.cells)
        x, _ = align(zero_invalid_tokens(features), self.tokens)
        rows, columns = self.cells
        return rearrange(self.join(x.flatten(1)), "b (h w d) -> b d h w", h=rows, w=columns)
