"""How a decoder of tokens reads a code of any number of tokens: laid over its own places, none dropped."""

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
    """The features with tokens that are not valid set to zero."""
    if features.mask is None:
        return features
    return replace(features, x=features.x.masked_fill(~features.mask.unsqueeze(-1), 0))


def resampled_mask(features: Features, places: int) -> Bool[Tensor, "b n"] | None:
    """Which of ``places`` the code's mask says are real; None where it says nothing of them.

    After an encoder that read only some tokens the others are unknown, neither real nor padding; a code whose ``grid`` is ()
    lies nowhere over the places.
    """
    if features.mask is None or features.positions is not None or features.grid == ():
        return None
    return align(_mask_as_features(features), places)[0].squeeze(-1) > 0


def _mask_as_features(features: Features) -> Features:
    """Ones at valid tokens, to be laid as the tokens are."""
    assert features.mask is not None
    return replace(features, x=features.mask.unsqueeze(-1).float())


class ResampleTokens(nn.Module):
    """Lays a code over ``places``: fewer tokens are repeated to the nearest, more are joined by a linear map.

    Attributes:
        in_dim: the width that the code must have: ``width``, or less where several tokens are joined at a
            place.
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
        """(b m in_dim) to (b places width); ``grid`` where the places are the cells of an image."""
        features = zero_invalid_tokens(features)
        count = features.x.shape[1] if features.positions is None else features.length or 0
        source = features.grid if features.grid is not None and math.prod(features.grid) == count else None
        cells = grid if self.group == 1 else None
        x, present = align(features, places * self.group, cells)
        if features.mask is not None:  # what is not valid is as good as absent
            present = align(_mask_as_features(features), places * self.group, cells)[0].squeeze(-1) > 0
        if self.group > 1:
            x = self.join(_group_tokens(x, source, grid, self.group))
            present = None if present is None else present.unflatten(1, (places, self.group)).any(-1)
        if self.absent is not None:
            if present is None:  # the mask token still takes part: DDP raises on weights without a gradient
                present = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
            return torch.where(present.unsqueeze(-1), x, self.absent.to(x.dtype))
        return x

    def distinct(
        self, features: Features, places: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "r d"], Int[Tensor, "b n"]] | None:
        """The placed code plus ``places``: each distinct token once, and which of them stands where.

        Where nothing was kept, every example has the same mask token at the same place: n rows say all of them.
        None where tokens were not left out one by one, and in half precision: a row's gradient is a sum over the batch.
        """
        at, x = features.positions, features.x
        if at is None or features.mask is not None or self.absent is None or self.group > 1:
            return None
        half = torch.is_autocast_enabled(x.device.type) or x.dtype in (torch.bfloat16, torch.float16)
        if half or features.length != len(places):
            return None
        places = places.to(x.dtype)
        shown = x.flatten(0, 1) + places.index_select(0, at.flatten())
        rows = torch.cat([self.absent.to(x.dtype) + places, shown])
        index = torch.arange(len(places), device=x.device).repeat(len(x), 1)
        own = torch.arange(len(places), len(rows), device=x.device)
        return rows, index.scatter_(1, at, own.view(at.shape))


def _group_tokens(
    x: Tensor, source: tuple[int, ...] | None, grid: tuple[int, int] | None, group: int
) -> Tensor:
    """The tokens of each place in a row: a block of cells where the grids say so, else consecutive ones."""
    if grid is not None and source is not None and len(source) == 2:
        (rows, rest), (columns, over) = divmod(source[0], grid[0]), divmod(source[1], grid[1])
        if rest == over == 0 and rows * columns == group:
            axes = {"gh": grid[0], "gw": grid[1], "ph": rows, "pw": columns}
            return rearrange(x, "b (gh ph gw pw) d -> b (gh gw) (ph pw d)", **axes)
    return rearrange(x, "b (n g) d -> b n (g d)", g=group)
