"""Resampling of a code with any number of tokens to the tokens of a decoder, without dropping any."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit.models.grid import align
from reprkit.types import Features


def zero_invalid_tokens(features: Features) -> Features:
    """Set invalid tokens to zero."""
    if features.mask is None:
        return features
    return replace(features, x=features.x.masked_fill(~features.mask.unsqueeze(-1), 0))


def resampled_mask(features: Features, places: int) -> Bool[Tensor, "b n"] | None:
    """Resample the code's mask to ``places`` tokens; None where it does not determine which of them are valid.

    That is so after an encoder that read a subset, since the other tokens are neither valid nor padding, and for a code whose
    ``grid`` is (), since its tokens correspond to no positions of the data.
    """
    if features.mask is None or features.positions is not None or features.grid == ():
        return None
    return align(_mask_as_features(features), places)[0].squeeze(-1) > 0


def _mask_as_features(features: Features) -> Features:
    """Return features of 1 at valid tokens and 0 elsewhere, to be aligned as the tokens are."""
    assert features.mask is not None
    return replace(features, x=features.mask.unsqueeze(-1).float())


class ResampleTokens(nn.Module):
    """Resample a code to ``places`` tokens: fewer are repeated by nearest neighbor, more are merged by a linear map.

    Args:
        width: width of the output tokens.
        tokens: number of tokens of the code; None where it varies.
        places: number of output tokens; None where it varies.
        absent: whether to learn a mask token for positions without a token.

    Attributes:
        in_dim: the width that the code must have: ``width``, or less where several tokens are merged into one.
    """

    def __init__(self, width: int, *, tokens: int | None, places: int | None, absent: bool = False) -> None:
        super().__init__()
        self.group = 1 if tokens is None or places is None else math.ceil(tokens / places)
        self.in_dim = width if self.group == 1 else max(4, math.ceil(width / self.group))
        self.join = nn.Identity() if self.group == 1 else nn.Linear(self.group * self.in_dim, width)
        self.absent = nn.Parameter(torch.randn(width) * 0.02) if absent else None

    def forward(
        self, features: Features, places: int, grid: tuple[int, int] | None = None
    ) -> Float[Tensor, "b n d"]:
        """Map (b m in_dim) to (b places width); ``grid`` is given where the output tokens are the cells of an image."""
        features = zero_invalid_tokens(features)
        count = features.x.shape[1] if features.positions is None else features.length or 0
        source = features.grid if features.grid is not None and math.prod(features.grid) == count else None
        cells = grid if self.group == 1 else None
        x, present = align(features, places * self.group, cells)
        if features.mask is not None:  # invalid tokens count as absent
            present = align(_mask_as_features(features), places * self.group, cells)[0].squeeze(-1) > 0
        if self.group > 1:
            x = self.join(_group_tokens(x, source, grid, self.group))
            present = None if present is None else present.unflatten(1, (places, self.group)).any(-1)
        if self.absent is not None:
            if present is None:  # keep the mask token in the graph: DDP raises on weights without a gradient
                present = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
            return torch.where(present.unsqueeze(-1), x, self.absent.to(x.dtype))
        return x

    def distinct_tokens(
        self, features: Features, places: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "r d"], Int[Tensor, "b n"]] | None:
        """Return the resampled code plus position embeddings ``places`` as distinct rows, and the index of rows by position.

        Where the encoder read no token, all examples have the same mask token at the same position, so n rows represent them.
        None if the encoder did not read a subset of single tokens, and in half precision, where a row's gradient, a sum over the
        batch, would be inaccurate.
        """
        positions, x = features.positions, features.x
        if positions is None or features.mask is not None or self.absent is None or self.group > 1:
            return None
        half = torch.is_autocast_enabled(x.device.type) or x.dtype in (torch.bfloat16, torch.float16)
        if half or features.length != len(places):
            return None
        places = places.to(x.dtype)
        encoded = x.flatten(0, 1) + places.index_select(0, positions.flatten())
        rows = torch.cat([self.absent.to(x.dtype) + places, encoded])
        index = torch.arange(len(places), device=x.device).repeat(len(x), 1)
        own = torch.arange(len(places), len(rows), device=x.device)
        return rows, index.scatter_(1, positions, own.view(positions.shape))


def _group_tokens(
    x: Tensor, source: tuple[int, ...] | None, grid: tuple[int, int] | None, group: int
) -> Tensor:
    """Concatenate the tokens that are merged: a block of cells where both grids allow it, else consecutive tokens."""
    if grid is not None and source is not None and len(source) == 2:
        (rows, row_rest), (columns, column_rest) = divmod(source[0], grid[0]), divmod(source[1], grid[1])
        if row_rest == column_rest == 0 and rows * columns == group:
            axes = {"gh": grid[0], "gw": grid[1], "ph": rows, "pw": columns}
            return rearrange(x, "b (gh ph gw pw) d -> b (gh gw) (ph pw d)", **axes)
    return rearrange(x, "b (n g) d -> b n (g d)", g=group)
