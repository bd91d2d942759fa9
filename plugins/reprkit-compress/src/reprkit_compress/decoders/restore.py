"""The reconstruction network of Jiang et al. 2017: from a standard codec's picture to one of full size."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Likelihood, Signature
from reprkit.decoders.head import Scale
from reprkit.registry.constraints import DepthOrZero, Width
from reprkit_compress.decoders.base import PictureDecoder, identity_head
from reprkit_compress.layers.maps import picture_cells
from reprkit_compress.layers.picture_network import PictureNetwork


class RestoreDecoder(PictureDecoder):
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
        cells, channels = picture_cells(data["x"], "decoder restore", "scale", scale)
        super().__init__("decoder restore", cells, tokens)
        self.in_dim, self.scale = channels, scale
        self.head = identity_head(channels, field=data["x"], likelihood=likelihood, scale=spread)
        self.layers = nn.Sequential(PictureNetwork(channels, channels, width, blocks, up=scale))

    def pixels(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c h w"]:
        """Return the restored picture."""
        picture = large = x * 2 - 1
        if self.scale > 1:
            large = F.interpolate(picture, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return large + self.layers(picture)
