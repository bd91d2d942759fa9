"""The reconstruction network of Jiang et al. 2017: from a standard codec's picture to one of full size."""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Likelihood, Signature
from reprkit.decoders.head import Head, Scale
from reprkit.errors import BuildError
from reprkit.layers.field_checks import image_shape
from reprkit.layers.resample_tokens import zero_invalid_tokens
from reprkit.models.grid import align
from reprkit.registry.constraints import DepthOrZero, Width
from reprkit_compress.layers.picture_network import PictureNetwork


class RestoreDecoder(Decoder):
    """The picture that a codec gave back, enlarged, and a network's correction (Jiang et al. 2017, arXiv 1708.00838, section III).

    ::

        z (b n c) in [0, 1] ──► bicubic enlargement + a convolutional network's correction ──► mean of each pixel (b h*w c)

    The network starts near 0.  With scale=1 it removes the codec's artifacts only.  Every pixel is a token of the output, whose
    size is ``scale`` times the code's grid.

    Args:
        scale: how many times larger the sides are than those of the code's picture.
        width: channels of the network's maps, at half resolution or less.
        blocks: residual blocks.
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        spread: scale of a density such as a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed number.
        data: the signature of the output, field ``x``, an image (h w c).
        tokens: number of tokens of the code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, or ``scale`` does not divide its size.
    """

    provides = frozenset({"any_size"})

    def __init__(
        self,
        scale: Literal[1, 2, 4] = 2,
        *,
        width: Width = 48,
        blocks: DepthOrZero = 4,
        likelihood: str | Likelihood | None = None,
        spread: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__()
        field = data["x"]
        height, length, channels = image_shape(field, "decoder restore")
        if field.discrete:
            raise BuildError("decoder restore makes pictures of pictures, and x is a map of symbols")
        if height % scale or length % scale:
            raise BuildError(f"decoder restore: scale={scale} does not divide images of {height} x {length}")
        self.scale, self.in_dim, self.cells = scale, channels, (height // scale, length // scale)
        # A code with other tokens than cells is resampled to them, so the picture's size cannot follow its grid.
        self.fixed = tokens is not None and tokens != math.prod(self.cells)
        if self.fixed:
            self.provides = self.provides - {"any_size"}
        self.head = Head(channels, channels, field=field, likelihood=likelihood, scale=spread)
        if self.head.linear.weight.shape == (channels, channels):
            nn.init.eye_(self.head.linear.weight)
            nn.init.zeros_(self.head.linear.bias)
        self.layers = nn.Sequential(PictureNetwork(channels, channels, width, blocks, up=scale))

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the picture; every pixel is a token (b h*w c)."""
        if features is None:
            raise BuildError("decoder restore needs a code, and there is none")
        features = zero_invalid_tokens(features)
        grid = features.grid if features.positions is None and not self.fixed else None
        if grid is None or len(grid) != 2 or math.prod(grid) != features.x.shape[1]:
            grid = self.cells
        x, _ = align(features, math.prod(grid), grid)
        picture = rearrange(x, "b (h w) c -> b c h w", h=grid[0]) * 2 - 1
        large = picture
        if self.scale > 1:
            large = F.interpolate(picture, scale_factor=self.scale, mode="bicubic", align_corners=False)
        large = large + self.layers(picture)
        return self.head(rearrange(large, "b c h w -> b (h w) c"), grid=tuple(large.shape[2:]))
