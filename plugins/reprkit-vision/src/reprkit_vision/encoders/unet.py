"""U-Net: a picture to layers, each pixel's value, the opacity of paint over it, and the paint."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit import Encoder, Features, Signature
from reprkit.errors import BuildError
from reprkit.layers.field_checks import image_shape
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import Depth, Width
from reprkit.types import Batch


class UNet(Encoder):
    """A picture as layers: of each pixel its own value, the opacity of a layer of paint above it, and the paint (b h*w 2c+1).

    ::

        x (b h w c) ──┬──────────────────────────────────────────────► given    c channels
                      └─► 2 x 2 pixels as channels ─► stages down ─► stages up ─► opacity  1 (a logit)
                                          └──── added at each size ────┘      └► paint    c (starts as the picture)

    Decoder ``compose`` puts the layers together: pixels of low opacity stay as they are, so that what a corruption has not
    changed is not changed either.  Stages halve the map and double its channels (up to four times ``width``); there is no
    normalization, so the result at a pixel depends on its surroundings alone, and pictures may have any size.  The first layer
    and the last work at half resolution.

    Args:
        width: channels of the largest maps.
        depth: halvings below half resolution.
        blocks: residual blocks of two convolutions in each stage.
        data: the signature of the input, field ``x``, an image (h w c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image.

    Source: Ronneberger, Fischer and Brox 2015, arXiv 1505.04597, with sums in place of concatenations; residual blocks: He et al.
    2016, arXiv 1603.05027.
    """

    provides = frozenset({"any_size"})

    def __init__(
        self,
        width: Width = 24,
        *,
        depth: Annotated[int, Ge(1), Le(8)] = 2,
        blocks: Depth = 1,
        data: Signature,
    ) -> None:
        super().__init__()
        _, _, channels = image_shape(data["x"], "encoder unet")
        if data["x"].discrete:
            raise BuildError("encoder unet reads pictures, and x is a map of symbols")
        self.cell, self.out_dim = 2 ** (depth + 1), 2 * channels + 1
        self.rescale = Rescale(data["x"])
        widths = [width * min(2**level, 4) for level in range(depth + 1)]
        self.first = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, width, 3, padding=1))
        self.stages = nn.ModuleList(_blocks(each, blocks) for each in widths)
        self.down = nn.ModuleList(nn.Conv2d(one, two, 2, stride=2) for one, two in pairwise(widths))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(two, 4 * one, 1), nn.PixelShuffle(2)) for one, two in pairwise(widths)
        )
        self.joined = nn.ModuleList(_blocks(each, blocks) for each in widths[:-1])
        last = nn.Conv2d(width, 4 * (channels + 1), 3, padding=1)
        nn.init.normal_(last.weight, std=1e-2)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.last = nn.Sequential(nn.LeakyReLU(0.1), last, nn.PixelShuffle(2))

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the layers of each pixel (b h*w 2c+1): its value, opacity and paint.

        Raises:
            BuildError: ``keep`` was given; pixels are read with their surroundings.
        """
        if keep is not None:
            raise BuildError(
                "encoder unet cannot read only some pixels: it reads their surroundings; use vit"
            )
        picture = rearrange(self.rescale(batch["x"]), "b h w c -> b c h w").contiguous()
        opacity, change = self.changes(picture).split([1, picture.shape[1]], 1)
        # Paint that starts as the picture does no harm at any opacity; with other paint training closes the opacity at once, and
        # paint of no opacity learns nothing.
        layers = torch.cat([picture, opacity, picture + change], 1)
        return Features(x=rearrange(layers, "b d h w -> b (h w) d"), grid=self.grid(batch))

    def changes(self, picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e h w"]:
        """Return opacity and paint less picture (e = 1 + c) of a rescaled picture."""
        height, width = picture.shape[2:]
        x = F.pad(picture, (0, -width % self.cell, 0, -height % self.cell), mode="replicate")
        x, kept = self.first(x), []
        for stage, down in zip(self.stages[:-1], self.down, strict=True):
            x = stage(x)
            kept.append(x)
            x = down(x)
        x = self.stages[-1](x)
        for up, joined, skip in reversed(list(zip(self.up, self.joined, kept, strict=True))):
            x = joined(up(x) + skip)
        return self.last(x)[:, :, :height, :width]

    def count(self, batch: Batch) -> int:
        """Return the number of pixels."""
        rows, columns = self.grid(batch)
        return rows * columns

    def grid(self, batch: Batch) -> tuple[int, int]:
        """Return the rows and columns of the picture."""
        return batch["x"].shape[1], batch["x"].shape[2]


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(count)))


class _Block(nn.Module):
    """Two convolutions of 3 with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b d h w) to (b d h w)."""
        return x + self.body(x)
