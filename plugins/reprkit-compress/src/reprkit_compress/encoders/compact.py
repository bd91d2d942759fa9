"""The compact network of Jiang et al. 2017: a smaller picture for a standard codec."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Int
from torch import Tensor, nn

from reprkit import Encoder, Features, Signature
from reprkit.errors import BuildError, DataError
from reprkit.layers.field_checks import image_shape
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import DepthOrZero, Width
from reprkit.types import Batch
from reprkit_compress.layers.picture_network import PictureNetwork


class CompactEncoder(Encoder):
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

    provides = frozenset({"any_size"})

    def __init__(
        self, scale: Literal[1, 2, 4] = 2, *, width: Width = 32, blocks: DepthOrZero = 3, data: Signature
    ) -> None:
        super().__init__()
        field = data["x"]
        height, length, channels = image_shape(field, "encoder compact")
        if field.discrete:
            raise BuildError("encoder compact makes pictures of pictures, and x is a map of symbols")
        if height % scale or length % scale:
            raise BuildError(f"encoder compact: scale={scale} does not divide images of {height} x {length}")
        self.out_dim, self.scale = channels, scale
        self.rescale = Rescale(field)
        self.layers = nn.Sequential(PictureNetwork(channels, channels, width, blocks, down=scale))

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the pixels of the smaller picture (b n c).

        Raises:
            BuildError: ``keep`` was given; neighboring pixels depend on each other.
            DataError: ``scale`` does not divide the pictures' sides.
        """
        if keep is not None:
            raise BuildError("encoder compact cannot read only some pixels: use vit")
        grid = self.grid(batch)
        picture = rearrange(self.rescale(batch["x"]), "b h w c -> b c h w")
        small = (F.avg_pool2d(picture, self.scale) + self.layers(picture)) / 2 + 0.5
        return Features(x=rearrange(small, "b c h w -> b (h w) c"), grid=grid)

    def count(self, batch: Batch) -> int:
        """Return the number of pixels of the smaller picture."""
        rows, columns = self.grid(batch)
        return rows * columns

    def grid(self, batch: Batch) -> tuple[int, int]:
        """Return rows and columns of the smaller picture."""
        height, width = batch["x"].shape[1:3]
        if height % self.scale or width % self.scale:
            raise DataError(
                f"encoder compact with scale={self.scale} reads pictures whose sides are multiples of it, and these are "
                f"{height} x {width}: pad them"
            )
        return height // self.scale, width // self.scale
