"""The synthesis transform of Ballé et al. 2017: inverse divisive normalization and transposed convolutions."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le, Predicate
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Features, Likelihood, Signature
from reprkit.decoders.head import Head, Scale
from reprkit.registry.constraints import Width, odd
from reprkit_compress.decoders.base import PictureDecoder
from reprkit_compress.layers.gdn import GDN
from reprkit_compress.layers.maps import TokensToMap


class MapDecoder(PictureDecoder):
    """Base of decoders that double the code's grid ``depth`` times.

    A subclass sets ``layers``, from the map of the code to ``pixel_width`` channels of each pixel.

    Args:
        width: channels of the code's map.
        depth: doublings.
        part: the part's name in errors.
        likelihood: as of the subclass.
        scale: as of the subclass.
        data: the signature of the output, field ``x``.
        tokens: number of tokens of the code.
    """

    layers: nn.Sequential

    def __init__(
        self,
        width: int,
        depth: int,
        part: str,
        *,
        likelihood: str | Likelihood | None,
        scale: Scale,
        data: Signature,
        tokens: int | None,
    ) -> None:
        place = TokensToMap(width, depth, part, data=data, tokens=tokens)
        super().__init__(part, place.cells, tokens)
        self.place, self.in_dim = place, place.in_dim
        field = data["x"]
        # As many channels as the likelihood has parameters: a wide map of all pixels would take most of the time.
        needed = field.channels * sum(
            Head(1, field.channels, field=field, likelihood=likelihood, scale=scale).sizes.values()
        )
        self.pixel_width = min(width, needed)
        self.head = Head(self.pixel_width, field.channels, field=field, likelihood=likelihood, scale=scale)
        if self.head.linear.weight.shape[0] == self.head.linear.weight.shape[1]:
            nn.init.eye_(self.head.linear.weight)

    def to_map(self, features: Features) -> Float[Tensor, "b d i j"]:
        """Return the code's map; a code with other tokens than cells is mapped to it by a linear layer."""
        return self.place(features)

    def pixels(self, x: Float[Tensor, "b d i j"]) -> Float[Tensor, "b c h w"]:
        """Return what the head reads of each pixel."""
        return self.layers(x)


class StridedDecoder(MapDecoder):
    """Transposed convolutions of stride 2, each after inverse divisive normalization (Ballé et al. 2017, arXiv 1611.01704).

    The picture has 2^depth times the sides of the code's grid, whatever they are.  For rate and distortion in nats the scale is a
    number: ``strided(scale=0.02)`` with objective "reconstruction" and a latent whose loss is the rate.  A Gaussian's squared error
    then weighs 1 / (2 scale^2): the smaller the scale, the more bits.

    Args:
        width: channels of every map.
        depth: number of doublings.
        kernel: side of the convolutions, odd.
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
        kernel: Annotated[int, Ge(3), Le(9), Predicate(odd)] = 5,
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__(
            width, depth, "decoder strided", likelihood=likelihood, scale=scale, data=data, tokens=tokens
        )
        layers: list[nn.Module] = []
        for doubling in range(depth):
            out = width if doubling < depth - 1 else self.pixel_width
            half = kernel // 2
            layers += [
                GDN(width, inverse=True),
                nn.ConvTranspose2d(width, out, kernel, stride=2, padding=half, output_padding=1),
            ]
        self.layers = nn.Sequential(*layers)
