"""A synthesis transform that starts as the inverse cosine transform of JPEG."""

from __future__ import annotations

import math
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Likelihood, Signature
from reprkit.decoders.head import Head, Scale
from reprkit.errors import BuildError
from reprkit.layers.field_checks import image_shape
from reprkit.layers.resample_tokens import zero_invalid_tokens
from reprkit.models.grid import align
from reprkit.registry.constraints import DepthOrZero, Positive, Width
from reprkit_compress.layers.cosine import Bottleneck, cosine_basis
from reprkit_compress.layers.picture_network import PictureNetwork


class CosineDecoder(Decoder):
    """The mirror of encoder ``cosine``: residual blocks, the inverse cosine transform, and a correction of the pixels.

    ::

        z (b n d) ──► x 2 step ──► residual blocks ──► pixels of blocks ──► + network over blocks' borders ──► (b h*w c)

    All maps but the inverse transform start as the identity, and the correction near 0.  Every pixel is a token of the output.

    Args:
        side: pixels of a block's side; those of the encoder.
        inner: channels inside of the residual blocks.
        blocks: residual blocks.
        width: channels of the correction, at half resolution; its number of residual blocks is ``smoothing``.
        smoothing: residual blocks of the correction.
        step: quantization step at the start, as the encoder's: latent ``rounded`` gives steps.
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        scale: scale of a density such as a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed number.
        data: the signature of the output, field ``x``, an image (h w c).
        tokens: number of tokens of the code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, or ``side`` does not divide its size.
    """

    provides = frozenset({"any_size"})

    def __init__(
        self,
        side: Literal[2, 4, 8, 16] = 8,
        *,
        inner: Width = 64,
        blocks: DepthOrZero = 2,
        width: Width = 24,
        smoothing: DepthOrZero = 1,
        step: Positive = 0.06,
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__()
        field = data["x"]
        height, length, channels = image_shape(field, "decoder cosine")
        if field.discrete:
            raise BuildError("decoder cosine makes pictures, and x is a map of symbols")
        if height % side or length % side:
            raise BuildError(f"decoder cosine: side={side} does not divide images of {height} x {length}")
        self.in_dim, self.cells = channels * side**2, (height // side, length // side)
        # A code with other tokens than cells is resampled to them, so the picture's size cannot follow its grid.
        self.fixed = tokens is not None and tokens != math.prod(self.cells)
        if self.fixed:
            self.provides = self.provides - {"any_size"}
        self.blocks = nn.Sequential(*(Bottleneck(self.in_dim, inner) for _ in range(blocks)))
        self.transform = nn.ConvTranspose2d(self.in_dim, channels, side, stride=side)
        with torch.no_grad():
            self.transform.weight.copy_(cosine_basis(channels, side) * 2 * step)
            nn.init.zeros_(self.transform.bias)  # type: ignore[arg-type]
        self.correction = PictureNetwork(channels, channels, width, smoothing)
        self.head = Head(channels, channels, field=field, likelihood=likelihood, scale=scale)
        if self.head.linear.weight.shape == (channels, channels):
            nn.init.eye_(self.head.linear.weight)
            nn.init.zeros_(self.head.linear.bias)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the picture; every pixel is a token (b h*w c)."""
        if features is None:
            raise BuildError("decoder cosine needs a code, and there is none")
        features = zero_invalid_tokens(features)
        grid = features.grid if features.positions is None and not self.fixed else None
        if grid is None or len(grid) != 2 or math.prod(grid) != features.x.shape[1]:
            grid = self.cells
        x, _ = align(features, math.prod(grid), grid)
        picture = self.transform(self.blocks(rearrange(x, "b (h w) d -> b d h w", h=grid[0])))
        picture = picture + self.correction(picture)
        return self.head(rearrange(picture, "b c h w -> b (h w) c"), grid=tuple(picture.shape[2:]))
