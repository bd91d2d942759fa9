"""An analysis transform that starts as the cosine transform of JPEG."""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor, nn

from reprkit import Encoder, Features, Signature
from reprkit.errors import BuildError, DataError
from reprkit.layers.field_checks import image_shape
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import DepthOrZero, Positive, Width
from reprkit.types import Batch
from reprkit_compress.layers.cosine import Bottleneck, cosine_basis


class CosineEncoder(Encoder):
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

    provides = frozenset({"any_size"})

    def __init__(
        self,
        side: Literal[2, 4, 8, 16] = 8,
        *,
        inner: Width = 64,
        blocks: DepthOrZero = 1,
        step: Positive = 0.06,
        data: Signature,
    ) -> None:
        super().__init__()
        field = data["x"]
        height, length, channels = image_shape(field, "encoder cosine")
        if field.discrete:
            raise BuildError("encoder cosine transforms pictures, and x is a map of symbols")
        if height % side or length % side:
            raise BuildError(f"encoder cosine: side={side} does not divide images of {height} x {length}")
        self.out_dim, self.side, self.step = channels * side**2, side, float(step)
        self.rescale = Rescale(field)
        transform = nn.Conv2d(channels, self.out_dim, side, stride=side)
        with torch.no_grad():
            transform.weight.copy_(cosine_basis(channels, side) / (8 * step))  # values are in -1 to 1
            nn.init.zeros_(transform.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(transform, *(Bottleneck(self.out_dim, inner) for _ in range(blocks)))

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the coefficients of the blocks (b n c*side^2).

        Raises:
            BuildError: ``keep`` was given; neighboring blocks depend on each other.
            DataError: ``side`` does not divide the pictures' sides.
        """
        if keep is not None:
            raise BuildError("encoder cosine cannot read only some blocks: use vit")
        grid = self.grid(batch)
        picture = rearrange(self.rescale(batch["x"]), "b h w c -> b c h w")
        return Features(x=rearrange(self.layers(picture), "b d h w -> b (h w) d"), grid=grid)

    def count(self, batch: Batch) -> int:
        """Return the number of blocks."""
        rows, columns = self.grid(batch)
        return rows * columns

    def grid(self, batch: Batch) -> tuple[int, int]:
        """Return rows and columns of blocks."""
        height, width = batch["x"].shape[1:3]
        if height % self.side or width % self.side:
            raise DataError(
                f"encoder cosine with side={self.side} reads pictures whose sides are multiples of it, and these are "
                f"{height} x {width}: pad them"
            )
        return height // self.side, width // self.side
