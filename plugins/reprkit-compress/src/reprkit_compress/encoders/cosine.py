"""An analysis transform that starts as the cosine transform of JPEG."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from reprkit import Signature
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import DepthOrZero, Positive, Width
from reprkit_compress.encoders.base import MapEncoder
from reprkit_compress.layers.cosine import Bottleneck, cosine_basis
from reprkit_compress.layers.maps import picture_cells


class CosineEncoder(MapEncoder):
    """A linear map of blocks of pixels that starts as the cosine transform, then residual blocks that start as the identity.

    ::

        x (b h w c) ──► coefficients of blocks, side x side ──► / (4 step) ──► residual blocks ──► (b n c*side^2)

    So training starts from transform coding as JPEG does it (Wallace 1991), at a color transform and without chroma subsampling,
    and learns what is better; on a CPU it needs a small part of the steps of a transform that starts at random.  With latent
    ``rounded``, whose code is 4 times the features, a unit of the code is a quantization step of ``step``.  All convolutions but
    the first have cells of ``side`` pixels.

    A token is a block, and ``grid`` the rows and columns of blocks.  Its channels are the means of all colors, then each color's
    other coefficients from low to high frequencies, as latent ``context-tables`` expects them.

    Args:
        side: pixels of a block's side.
        inner: channels inside of the residual blocks.
        blocks: residual blocks.
        step: quantization step at the start, as a share of the data's range.
        data: the signature of the input, field ``x``, an image (h w c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, or ``side`` does not divide its size.
    """

    def __init__(
        self,
        side: Literal[2, 4, 8, 16] = 8,
        *,
        inner: Width = 64,
        blocks: DepthOrZero = 1,
        step: Positive = 0.06,
        data: Signature,
    ) -> None:
        _, channels = picture_cells(data["x"], "encoder cosine", "side", side)
        super().__init__(channels * side**2, side, "encoder cosine", f"side={side}")
        self.rescale = Rescale(data["x"])
        transform = nn.Conv2d(channels, self.out_dim, side, stride=side)
        with torch.no_grad():
            transform.weight.copy_(cosine_basis(channels, side) / (8 * step))  # values are in -1 to 1
            nn.init.zeros_(transform.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(transform, *(Bottleneck(self.out_dim, inner) for _ in range(blocks)))
