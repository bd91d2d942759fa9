"""An analysis transform that is fast on a CPU: residual blocks at low resolution."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from torch import nn

from reprkit import Signature
from reprkit.registry.constraints import DepthOrZero, Width
from reprkit_compress.encoders.strided import HalvingEncoder
from reprkit_compress.layers.blocks import Block
from reprkit_compress.layers.maps import stage_widths


class BlocksEncoder(HalvingEncoder):
    """Convolutions of stride 2 and residual blocks, with few channels near the pixels and most of the work on the last maps.

    Maps have half the channels of the next one, but at least 32, and each but the first is followed by residual blocks without
    normalization (as in Theis et al. 2017, arXiv 1703.00395), so that a cell does not depend on the size of the picture.

    Args:
        width: channels of the last map.
        depth: number of halvings.
        blocks: residual blocks of each map after the first; 0 for none.
        data: the signature of the input, field ``x``, an image (h w c) or a map of symbols (h w), which are embedded.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is neither an image nor a map, or 2^depth does not divide its size.
    """

    def __init__(
        self,
        width: Width = 128,
        *,
        depth: Annotated[int, Ge(1), Le(8)] = 4,
        blocks: DepthOrZero = 1,
        data: Signature,
    ) -> None:
        super().__init__(width, depth, "encoder blocks", data)
        layers: list[nn.Module] = []
        channels = self.channels
        for stage, wide in enumerate(reversed(stage_widths(width, depth))):
            layers.append(nn.Conv2d(channels, wide, 4, stride=2, padding=1))
            layers += [Block(wide) for _ in range(blocks if stage or depth == 1 else 0)]
            layers.append(nn.LeakyReLU(0.01))
            channels = wide
        self.layers = nn.Sequential(*layers)
