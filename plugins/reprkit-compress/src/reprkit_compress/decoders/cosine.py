"""A synthesis transform that starts as the inverse cosine transform of JPEG."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Likelihood, Signature
from reprkit.decoders.head import Scale
from reprkit.registry.constraints import DepthOrZero, Positive, Width
from reprkit_compress.decoders.base import PictureDecoder, identity_head
from reprkit_compress.layers.cosine import Bottleneck, cosine_basis
from reprkit_compress.layers.maps import picture_cells
from reprkit_compress.layers.picture_network import PictureNetwork


class CosineDecoder(PictureDecoder):
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
        cells, channels = picture_cells(data["x"], "decoder cosine", "side", side)
        super().__init__("decoder cosine", cells, tokens)
        self.in_dim = channels * side**2
        self.blocks = nn.Sequential(*(Bottleneck(self.in_dim, inner) for _ in range(blocks)))
        self.transform = nn.ConvTranspose2d(self.in_dim, channels, side, stride=side)
        with torch.no_grad():
            self.transform.weight.copy_(cosine_basis(channels, side) * 2 * step)
            nn.init.zeros_(self.transform.bias)  # type: ignore[arg-type]
        self.correction = PictureNetwork(channels, channels, width, smoothing)
        self.head = identity_head(channels, field=data["x"], likelihood=likelihood, scale=scale)

    def pixels(self, x: Float[Tensor, "b d i j"]) -> Float[Tensor, "b c h w"]:
        """Return the picture."""
        picture = self.transform(self.blocks(x))
        return picture + self.correction(picture)
