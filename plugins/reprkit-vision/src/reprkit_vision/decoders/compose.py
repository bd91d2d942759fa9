"""Alpha compositing: a picture from its layers, what is given and paint of some opacity over it."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Likelihood, Signature
from reprkit.decoders.head import Head, Scale
from reprkit.errors import BuildError
from reprkit.layers.code_map import code_to_map
from reprkit.layers.field_checks import image_shape, require_token_count


class Compose(Decoder):
    """Alpha compositing, pixel by pixel: given + opacity (paint - given) (Porter and Duff 1984, operator over).

    A token of the code holds a pixel's given value (c), the logit of the opacity and the paint (c); encoder ``unet`` makes such
    codes.  Every pixel is a token of the output (b h*w c), whose size follows the code's grid.  The core's linear adapter before
    it starts as the identity where the code has 2c + 1 numbers a pixel: ``continuous(dim=7)`` for color, 3 for gray.  So does the
    output's linear layer, for a likelihood of one location a value.

    Args:
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        scale: scale of a density: "shared" (one, learned), "each" (predicted), or a fixed number.
        data: the signature of the output, field ``x``, an image (h w c).
        tokens: number of tokens of the code; one that is not the number of pixels is resampled by nearest neighbor.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, or the code's length varies.
    """

    provides = frozenset({"any_size"})

    def __init__(
        self,
        *,
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__()
        height, width, channels = image_shape(data["x"], "decoder compose")
        if data["x"].discrete:
            raise BuildError("decoder compose makes pictures, and x is a map of symbols")
        self.cells: tuple[int, int] = (height, width)
        self.channels, self.in_dim = channels, 2 * channels + 1
        self.fixed = require_token_count(tokens, "decoder compose") != math.prod(self.cells)
        if self.fixed:  # resampled to the data's size, so that the picture's cannot follow the code's grid
            self.provides = self.provides - {"any_size"}
        self.head = Head(channels, channels, field=data["x"], likelihood=likelihood, scale=scale)
        if self.head.linear.weight.shape == (channels, channels):
            nn.init.eye_(self.head.linear.weight)
            nn.init.zeros_(self.head.linear.bias)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the picture; every pixel is a token (b h*w c).

        Raises:
            BuildError: there is no code.
        """
        if features is None:
            raise BuildError("decoder compose needs a code, and there is none")
        layers = code_to_map(features, self.cells, fixed=self.fixed)
        given, opacity, paint = layers.split([self.channels, 1, self.channels], 1)
        picture = given + torch.sigmoid(opacity) * (paint - given)
        return self.head(rearrange(picture, "b c h w -> b (h w) c"), grid=tuple(picture.shape[2:]))
