"""Decoder without a layer of its own: the code, after the core's adapter, is the parameters of the likelihood."""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from reprkit.data.signature import Signature
from reprkit.decoders.head import Head
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Likelihood
from reprkit.layers.field_checks import flat_size, require_token_count
from reprkit.layers.resample_tokens import zero_invalid_tokens
from reprkit.models.grid import align
from reprkit.registry.constraints import Positive
from reprkit.types import Decoded, Features


class FlatDecoder(Decoder):
    """The code's values as the data's, without a layer: the core's linear adapter before it is the whole decoder.

    A code of one token holds the whole example, one token (b 1 p).  The tokens of a code with several hold its parts: the patches
    of an image where the code has a grid that divides it, else the concatenated tokens are the example, averaged down to its size
    where it does not divide into as many parts.  After an encoder of patches this is the linear decoder of SimMIM
    (Xie et al. 2022, arXiv 2111.09886, section 3.3).

    Args:
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        scale: scale of a density: "shared" (one, learned) or a fixed number; a Gaussian of 1.0 gives half the squared error.
        data: the signature of the output, field ``x``.
        tokens: number of tokens of the code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the length of the data or of the code varies, or there is no code.
    """

    provides = frozenset({"tokenwise"})

    def __init__(
        self,
        *,
        likelihood: str | Likelihood | None = None,
        scale: Literal["shared"] | Positive = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.field = data["x"]
        self.size = flat_size(self.field, "decoder flat")
        self.tokens = require_token_count(tokens, "decoder flat")
        self.head = Head(
            self.size,
            self.size,
            field=self.field,
            likelihood=likelihood,
            scale=scale,
            linear=nn.Identity(),
        )
        self.in_dim = math.ceil(self.size * self.head.sizes["linear"] / self.tokens)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the example: one token (b 1 p), or one for each patch of the code's grid (b n p)."""
        if features is None:
            raise BuildError("decoder flat needs a code, and there is none")
        x, _ = align(zero_invalid_tokens(features), self.tokens)
        grid = self._patches(features)
        if grid is not None:
            return self.head(x, grid=grid)
        x = x.flatten(1).unsqueeze(1)
        total = self.size * self.head.sizes["linear"]
        if x.shape[-1] != total:
            x = F.adaptive_avg_pool1d(x, total)
        return self.head(x, grid=(1, 1) if self.field.planar else (1,))

    def _patches(self, features: Features) -> tuple[int, ...] | None:
        """Return the code's grid where its tokens are patches of an image; else None."""
        grid = features.grid
        if not self.field.planar or not grid or len(grid) != 2 or math.prod(grid) != self.tokens:
            return None
        rows, columns = (int(size or 0) for size in self.field.shape[:2])
        return None if rows % grid[0] or columns % grid[1] else grid
