"""Convolutional decoder, which upsamples a small feature map to the image."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from reprkit.data.signature import Signature
from reprkit.decoders.head import Head, Scale
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Likelihood
from reprkit.layers.convolution import Residual, downsampled_size, group_norm
from reprkit.layers.dense import Activation
from reprkit.layers.dense import activation as activation_named
from reprkit.layers.field_checks import image_shape, require_token_count
from reprkit.layers.resample_tokens import zero_invalid_tokens
from reprkit.models.grid import align
from reprkit.registry.constraints import DepthOrZero, Width
from reprkit.types import Decoded, Features


class ConvDecoder(Decoder):
    """Residual blocks and stages that double the feature map (He et al. 2016) up to pixels: (b h*w c), grid (h, w).

    Each doubling is nearest-neighbor upsampling, then a convolution, which avoids checkerboard artifacts (Odena et al.
    2016, distill.pub/2016/deconv-checkerboard).  A code with as many tokens as the first map has cells is reshaped to
    it; any other is mapped to it by a linear layer over all its tokens, so that nothing is dropped.

    Args:
        width: channels of every feature map.
        depth: number of doublings; the first map is the image's size over 2^depth.
        blocks: residual blocks on the first map and after each doubling; 0 for none.
        activation: "silu", "gelu", "relu", "elu", "sigmoid" or "tanh".
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
        width: Width = 64,
        *,
        depth: DepthOrZero = 2,
        blocks: DepthOrZero = 1,
        activation: Activation = "silu",
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__()
        height, length, channels = image_shape(data["x"], "decoder conv")
        self.cells, self.pixels = downsampled_size(height, length, depth, "decoder conv"), (height, length)
        self.tokens = require_token_count(tokens, "decoder conv")
        cells = self.cells[0] * self.cells[1]
        self.in_dim = width if self.tokens == cells else max(8, 4 * width // self.tokens)
        self.place = nn.Sequential(nn.Flatten())
        if self.tokens != cells:
            self.place.append(activation_named(activation))
            self.place.append(nn.Linear(self.tokens * self.in_dim, cells * width))
        layers: list[nn.Module] = [nn.Conv2d(width, width, 3, padding=1)]
        layers += [Residual(width, activation) for _ in range(blocks)]
        for _ in range(depth):
            layers += [
                group_norm(width),
                activation_named(activation),
                nn.Upsample(scale_factor=2, mode="nearest"),
            ]
            layers += [nn.Conv2d(width, width, 3, padding=1)]
            layers += [Residual(width, activation) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, group_norm(width), activation_named(activation))
        self.head = Head(width, channels, field=data["x"], likelihood=likelihood, scale=scale)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the image; every pixel is a token (b h*w c)."""
        if features is None:
            raise BuildError("decoder conv needs a code, and there is none")
        code, _ = align(zero_invalid_tokens(features), self.tokens)
        rows, columns = self.cells
        first = rearrange(
            self.place(code), "b (h w d) -> b d h w", h=rows, w=columns
        )  # channels-last in memory
        pixels = rearrange(self.layers(first), "b d h w -> b (h w) d")
        return self.head(pixels, grid=self.pixels)
