"""The analysis transform of Ballé et al. 2017: strided convolutions and divisive normalization."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le, Predicate
from torch import nn

from reprkit import Signature
from reprkit.layers.convolution import downsampled_size
from reprkit.layers.field_checks import image_shape
from reprkit.layers.value_embedding import pixel_channels
from reprkit.registry.constraints import Width, odd
from reprkit_compress.encoders.base import MapEncoder
from reprkit_compress.layers.gdn import GDN


class HalvingEncoder(MapEncoder):
    """Base of encoders that halve pictures, or maps of symbols, ``depth`` times.

    Args:
        width: channels of the last map.
        depth: halvings.
        part: the part's name in errors.
        data: the signature of the input, field ``x``.

    Raises:
        BuildError: the data is neither an image nor a map of symbols, or 2^depth does not divide its size.
    """

    def __init__(self, width: int, depth: int, part: str, data: Signature) -> None:
        super().__init__(width, 2**depth, part, f"depth={depth}")
        height, length, _ = image_shape(data["x"], part)
        downsampled_size(height, length, depth, part)
        self.rescale, self.channels = pixel_channels(data["x"], width)


class StridedEncoder(HalvingEncoder):
    """Convolutions of stride 2, each with divisive normalization after it (Ballé et al. 2017, arXiv 1611.01704, section 3).

    Pictures may have any size whose sides are multiples of 2^depth.  One picture of 1 megapixel takes 41 billion multiplications
    with the default width, most of them in the second convolution.

    Args:
        width: channels of every map.
        depth: number of convolutions of stride 2; the map has 1 / 2^depth of the picture's sides.
        kernel: side of the convolutions, odd.
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
        kernel: Annotated[int, Ge(3), Le(9), Predicate(odd)] = 5,
        data: Signature,
    ) -> None:
        super().__init__(width, depth, "encoder strided", data)
        layers: list[nn.Module] = []
        channels = self.channels
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2), GDN(width)]
            channels = width
        self.layers = nn.Sequential(*layers)
