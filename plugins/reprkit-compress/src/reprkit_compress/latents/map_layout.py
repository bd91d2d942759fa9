"""Tokens of a code as a map, which side codes and neighbors need."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit import Code, Features

_BLOCK = 4  # tokens along each side of a block


def map_shape(tokens: Features | Code) -> tuple[int, int]:
    """Return rows and columns of all tokens, those of their grid; one row for others and for a subset of tokens."""
    count, grid = (tokens.x if isinstance(tokens, Features) else tokens.z).shape[1], tokens.grid
    if grid is None or len(grid) != 2 or math.prod(grid) != count or tokens.positions is not None:
        return 1, count
    return grid[0], grid[1]


class MapLayout:
    """Where the tokens of a code lie: on a map whose sides are multiples of four, and which of its blocks hold a valid token."""

    def __init__(self, tokens: Features | Code) -> None:
        self.size = map_shape(tokens)
        self.cells = tuple(-(-side // _BLOCK) for side in self.size)
        self.mask, self.valid = tokens.mask, None
        if self.mask is not None:
            there = self.to_map(self.mask.unsqueeze(-1).float())
            self.valid = F.max_pool2d(there, _BLOCK) > 0

    def to_map(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b d h w"]:
        """Lay out tokens on the map, with zeros after them."""
        rows, columns = self.size
        planes = x.mT.unflatten(2, self.size)
        return F.pad(planes, (0, self.cells[1] * _BLOCK - columns, 0, self.cells[0] * _BLOCK - rows))

    def to_tokens(self, planes: Float[Tensor, "b d h w"]) -> Float[Tensor, "b n d"]:
        """Invert ``to_map``."""
        return planes[:, :, : self.size[0], : self.size[1]].flatten(2).mT

    def rows(self, row: int) -> tuple[Tensor, Tensor]:
        """Return the places of an example's valid tokens, and of its valid cells."""
        if self.mask is None or self.valid is None:
            return torch.arange(math.prod(self.size)), torch.arange(math.prod(self.cells))
        return self.mask[row].cpu().nonzero().flatten(), self.valid[row].flatten().cpu().nonzero().flatten()
