"""Convolutional encoder, whose tokens are the cells of the last feature map."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Int
from torch import Tensor, nn

from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Encoder
from reprkit.layers.convolution import Residual, downsampled_size, group_norm
from reprkit.layers.dense import Activation
from reprkit.layers.dense import activation as activation_named
from reprkit.layers.field_checks import image_shape
from reprkit.layers.value_embedding import pixel_channels
from reprkit.registry.constraints import DepthOrZero, Width
from reprkit.types import Batch, Features


class ConvEncoder(Encoder):
    """Convolutional encoder: a stem, then stages that halve the image, with residual blocks (He et al. 2016, arXiv 1603.05027).

    Tokens are the (h / 2^depth)(w / 2^depth) cells of the last map, (b n width), and ``grid`` its rows and
    columns.  The architecture is that of the VQ-VAE's encoder (arXiv 1711.00937), with GroupNorm.

    Args:
        width: channels of every feature map.
        depth: number of stages of stride 2; 0 keeps the image's size.
        blocks: residual blocks after the stem (if ``depth`` is 0) and in each stage; 0 for none.
        activation: "silu", "gelu", "relu", "elu", "sigmoid" or "tanh".
        data: the signature of the input, field ``x``, an image (h w c) or a map of symbols (h w), which are embedded.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is neither an image nor a map, or 2^depth does not divide its size.
    """

    def __init__(
        self,
        width: Width = 64,
        *,
        depth: DepthOrZero = 2,
        blocks: DepthOrZero = 1,
        activation: Activation = "silu",
        data: Signature,
    ) -> None:
        super().__init__()
        height, length, _ = image_shape(data["x"], "encoder conv")
        self.cells = downsampled_size(height, length, depth, "encoder conv")
        self.out_dim = width
        self.rescale, channels = pixel_channels(data["x"], width)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        layers += [Residual(width, activation) for _ in range(blocks if depth == 0 else 0)]
        for _ in range(depth):
            layers += [
                group_norm(width),
                activation_named(activation),
                nn.Conv2d(width, width, 4, stride=2, padding=1),
            ]
            layers += [Residual(width, activation) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, group_norm(width), activation_named(activation))

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the cells of the last map (b n width).

        Raises:
            BuildError: ``keep`` was given; neighboring cells share pixels.
        """
        if keep is not None:
            raise BuildError("encoder conv cannot read only some cells: they overlap; use vit")
        image = rearrange(self.rescale(batch["x"]), "b h w c -> b c h w")  # a view: channels-last in memory
        return Features(x=rearrange(self.layers(image), "b d h w -> b (h w) d"), grid=self.cells)

    def count(self, batch: Batch) -> int:
        """Return the number of cells of the last map."""
        return self.cells[0] * self.cells[1]

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return rows and columns of the last map."""
        return self.cells
