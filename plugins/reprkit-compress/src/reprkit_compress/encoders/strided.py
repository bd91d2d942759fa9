"""The analysis transform of Ballé et al. 2017: strided convolutions and divisive normalization."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le, Predicate
from einops import rearrange
from jaxtyping import Int
from torch import Tensor, nn

from reprkit import Encoder, Features, Signature
from reprkit.errors import BuildError
from reprkit.layers.convolution import downsampled_size
from reprkit.layers.field_checks import image_shape
from reprkit.layers.value_embedding import pixel_channels
from reprkit.registry.constraints import Width, odd
from reprkit.types import Batch
from reprkit_compress.layers.gdn import GDN
from reprkit_compress.layers.maps import map_size


class MapEncoder(Encoder):
    """Base of encoders of pictures of any size whose sides are multiples of 2^depth; a subclass sets ``layers``.

    Tokens are the cells of the last map (b n d), and ``grid`` its rows and columns.

    Args:
        width: channels of the last map.
        depth: halvings.
        part: the part's name in errors.
        data: the signature of the input, field ``x``.

    Raises:
        BuildError: the data is neither an image nor a map of symbols, or 2^depth does not divide its size.
    """

    provides = frozenset({"any_size"})
    layers: nn.Sequential

    def __init__(self, width: int, depth: int, part: str, data: Signature) -> None:
        super().__init__()
        self.out_dim, self.depth, self.part = width, depth, part
        height, length, _ = image_shape(data["x"], part)
        downsampled_size(height, length, depth, part)
        self.rescale, self.channels = pixel_channels(data["x"], width)

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the cells of the last map (b n width).

        Raises:
            BuildError: ``keep`` was given; neighboring cells share pixels.
            DataError: pictures whose sides are no multiples of 2^depth.
        """
        if keep is not None:
            raise BuildError(f"{self.part} cannot read only some cells: they overlap; use vit")
        grid = map_size(batch, self.depth, self.part)
        picture = rearrange(self.rescale(batch["x"]), "b h w c -> b c h w")  # a view: channels-last in memory
        return Features(x=rearrange(self.layers(picture), "b d h w -> b (h w) d"), grid=grid)

    def count(self, batch: Batch) -> int:
        """Return the number of cells of the last map."""
        rows, columns = map_size(batch, self.depth, self.part)
        return rows * columns

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return rows and columns of the last map."""
        return map_size(batch, self.depth, self.part)


class StridedEncoder(MapEncoder):
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
