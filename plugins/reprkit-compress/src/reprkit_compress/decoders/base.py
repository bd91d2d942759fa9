"""Base of the synthesis transforms."""

from __future__ import annotations

import math

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Field, Likelihood
from reprkit.decoders.head import Head, Scale
from reprkit.errors import BuildError
from reprkit.layers.code_map import code_to_map


class PictureDecoder(Decoder):
    """Base of decoders to pictures whose size follows the code's grid; every pixel is a token (b h*w c).

    A subclass sets ``in_dim`` and ``head``, and defines ``pixels``.

    Args:
        part: the part's name in errors.
        cells: rows and columns of the code's map for pictures of the data's size.
        tokens: number of tokens of the code; with another number than ``cells`` has, the size of pictures is fixed.
    """

    provides = frozenset({"any_size"})
    head: Head

    def __init__(self, part: str, cells: tuple[int, int], tokens: int | None) -> None:
        super().__init__()
        self.part, self.code_grid = part, cells
        # A code with other tokens than cells is resampled to them, so the picture's size cannot follow its grid.
        self.fixed = tokens is not None and tokens != math.prod(cells)
        if self.fixed:
            self.provides = self.provides - {"any_size"}

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the picture; every pixel is a token (b h*w c)."""
        if features is None:
            raise BuildError(f"{self.part} needs a code, and there is none")
        pixels = self.pixels(self.to_map(features))
        return self.head(rearrange(pixels, "b d h w -> b (h w) d"), grid=tuple(pixels.shape[2:]))

    def to_map(self, features: Features) -> Float[Tensor, "b d i j"]:
        """Return the code's map."""
        return code_to_map(features, self.code_grid, fixed=self.fixed)

    def pixels(self, x: Float[Tensor, "b d i j"]) -> Float[Tensor, "b c h w"]:
        """Return what the head reads of each pixel."""
        raise NotImplementedError


def identity_head(channels: int, *, field: Field, likelihood: str | Likelihood | None, scale: Scale) -> Head:
    """Return a head of pictures; where its likelihood has one parameter a channel, it starts as the identity."""
    head = Head(channels, channels, field=field, likelihood=likelihood, scale=scale)
    if head.linear.weight.shape == (channels, channels):
        nn.init.eye_(head.linear.weight)
        nn.init.zeros_(head.linear.bias)
    return head
