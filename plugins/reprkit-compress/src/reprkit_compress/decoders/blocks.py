"""A synthesis transform that is fast on a CPU: residual blocks at low resolution, pixels by sub-pixel convolution."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from torch import nn

from reprkit import Likelihood, Signature
from reprkit.decoders.head import Scale
from reprkit.registry.constraints import DepthOrZero, Width
from reprkit_compress.decoders.strided import MapDecoder
from reprkit_compress.layers.blocks import Block
from reprkit_compress.layers.maps import stage_widths


class BlocksDecoder(MapDecoder):
    """The mirror of encoder ``blocks``: residual blocks on each map, then a sub-pixel convolution that doubles it.

    Sub-pixel convolution (Shi et al. 2016, arXiv 1609.05158) computes on the smaller map.  The picture has 2^depth times the sides
    of the code's grid, whatever they are.

    Args:
        width: channels of the code's map; each doubling halves them, down to 32.
        depth: number of doublings.
        blocks: residual blocks on each map but the last; 0 for none.
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        scale: scale of a density such as a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed number.
        data: the signature of the output, field ``x``, an image (h w c) or a map of symbols (h w).
        tokens: number of tokens of the code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is neither an image nor a map, 2^depth does not divide its size, or the code's length varies.
    """

    def __init__(
        self,
        width: Width = 128,
        *,
        depth: Annotated[int, Ge(1), Le(8)] = 4,
        blocks: DepthOrZero = 1,
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__(
            width, depth, "decoder blocks", likelihood=likelihood, scale=scale, data=data, tokens=tokens
        )
        widths = [*stage_widths(width, depth), self.pixel_width]
        layers: list[nn.Module] = []
        for stage in range(depth):
            wide, out = widths[stage : stage + 2]
            layers += [Block(wide) for _ in range(blocks if stage < depth - 1 or depth == 1 else 0)]
            layers += [
                nn.LeakyReLU(0.01),
                nn.Conv2d(wide, 4 * out, 3, padding=1),
                nn.PixelShuffle(2),
            ]
        self.layers = nn.Sequential(*layers)
