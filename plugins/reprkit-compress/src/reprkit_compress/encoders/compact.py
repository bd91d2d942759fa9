"""The compact network of Jiang et al. 2017: a smaller picture for a standard codec."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Signature
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import DepthOrZero, Width
from reprkit_compress.encoders.base import MapEncoder
from reprkit_compress.layers.maps import picture_cells
from reprkit_compress.layers.picture_network import PictureNetwork


class CompactEncoder(MapEncoder):
    """A picture of the same channels, smaller by ``scale``, for latents ``jpeg`` and ``webp`` (Jiang et al., arXiv 1708.00838).

    ::

        x (b h w c) ──► mean of scale x scale pixels + a convolutional network's correction ──► (b n c) in about [0, 1]

    A token is a pixel of the smaller picture, and ``grid`` its rows and columns.  The network starts near 0, so that it starts
    as a plain reduction, which the codec can already write; the paper's network has no such start.  Most of its work is at half
    resolution.

    Args:
        scale: how many times smaller the sides are; 1 keeps the size.
        width: channels of the network's maps.
        blocks: residual blocks.
        data: the signature of the input, field ``x``, an image (h w c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, or ``scale`` does not divide its size.
    """

    def __init__(
        self, scale: Literal[1, 2, 4] = 2, *, width: Width = 32, blocks: DepthOrZero = 3, data: Signature
    ) -> None:
        _, channels = picture_cells(data["x"], "encoder compact", "scale", scale)
        super().__init__(channels, scale, "encoder compact", f"scale={scale}")
        self.rescale = Rescale(data["x"])
        self.layers = nn.Sequential(PictureNetwork(channels, channels, width, blocks, down=scale))

    def to_map(self, picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        """Return the smaller picture, in about [0, 1]."""
        return (F.avg_pool2d(picture, self.side) + self.layers(picture)) / 2 + 0.5
