"""A convolutional network from a picture to a correction of a picture, with its work at half resolution or less."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reprkit_compress.layers.blocks import Block


class PictureNetwork(nn.Module):
    """Pixels to channels, residual blocks, channels to pixels; it starts near 0.

    It computes at ``1 / max(2, down, up)`` of the larger picture's sides.

    Args:
        channels: of the picture that it reads.
        out: channels of the result.
        width: channels of the maps.
        blocks: residual blocks.
        down: how many times smaller the result's sides are; 1 with ``up`` above 1.
        up: how many times larger.
    """

    def __init__(
        self, channels: int, out: int, width: int, blocks: int, *, down: int = 1, up: int = 1
    ) -> None:
        super().__init__()
        inside = max(2, down, up)  # pixels of the larger picture that a cell covers, a side
        self.enter, self.leave = inside // up, inside // down
        last = nn.Conv2d(width, out * self.leave**2, 3, padding=1)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(self.enter),
            nn.Conv2d(channels * self.enter**2, width, 3, padding=1),
            *(Block(width) for _ in range(blocks)),
            nn.LeakyReLU(0.01),
            last,
            nn.PixelShuffle(self.leave),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o i j"]:
        """Map (b c h w) to a picture ``up / down`` times as large; odd sides are padded and cropped."""
        height, width = x.shape[2:]
        padded = F.pad(x, (0, -width % self.enter, 0, -height % self.enter), mode="replicate")
        out = self.layers(padded)
        rows, columns = (side * self.leave // self.enter for side in padded.shape[2:])
        assert out.shape[2:] == (rows, columns)
        return out[:, :, : height * self.leave // self.enter, : width * self.leave // self.enter]
