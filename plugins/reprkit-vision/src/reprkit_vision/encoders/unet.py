"""U-Net: a picture and a correction that is added to it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

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
    """A picture plus a correction, pixel by pixel: (b h w c) to (b h*w c).

    ::

        x (b h w c) ──┬─────────────────────────────────────────────────────────► + ──► (b h*w c)
                      └─► 2 x 2 pixels as channels ─► stages down ─► stages up ───┘
                                          └──── added at each size ────┘

    The correction starts near zero.  With ``continuous(dim=c)`` and decoder ``flat``, whose maps are the identity at first, the
    model starts near the identity, and learns what a corruption has changed.  Stages halve the map and double its channels (up to
    four times ``width``).  There is no normalization, so the result at a pixel depends on its surroundings alone, and pictures may
    have any size.  The first layer and the last work at half resolution.

    Args:
        width: channels of the largest maps.
        depth: halvings below half resolution.
        blocks: residual blocks of two convolutions in each stage.
        data: the signature of the input, field ``x``, an image (h w c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image.

    Source: Ronneberger, Fischer and Brox 2015, arXiv 1505.04597, with sums in place of concatenations; the residual picture: Zhang
    et al. 2017, "Beyond a Gaussian denoiser", arXiv 1608.03981; residual blocks: He et al. 2016, arXiv 1603.05027.
    """

    provides = frozenset({"any_size"})

    def __init__(
        self,
        width: Width = 32,
        *,
        depth: Annotated[int, Ge(1), Le(8)] = 2,
        blocks: Depth = 1,
        data: Signature,
    ) -> None:
        super().__init__()
        _, _, channels = image_shape(data["x"], "encoder unet")
        if data["x"].discrete:
            raise BuildError("encoder unet reads pictures, and x is a map of symbols")
        self.cell, self.out_dim = 2 ** (depth + 1), channels
        self.rescale = Rescale(data["x"])
        widths = [width * min(2**level, 4) for level in range(depth + 1)]
        self.first = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.stages = nn.ModuleList(_blocks(each, blocks) for each in widths)
        self.down = nn.ModuleList(nn.Conv2d(one, two, 2, stride=2) for one, two in pairwise(widths))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(two, 4 * one, 1), nn.PixelShuffle(2)) for one, two in pairwise(widths)
        )
        self.joined = nn.ModuleList(_blocks(each, blocks) for each in widths[:-1])
        self.last = nn.Conv2d(width, 4 * channels, 3, padding=1)
        nn.init.normal_(self.last.weight, std=1e-3)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the corrected picture (b h*w c), rescaled to about [-1, 1].

        Raises:
            BuildError: ``keep`` was given; pixels are read with their surroundings.
        """
        if keep is not None:
            raise BuildError(
                "encoder unet cannot read only some pixels: it reads their surroundings; use vit"
            )
        picture = self.rescale(batch["x"])
        corrected = picture + self.correction(picture.movedim(-1, 1)).movedim(1, -1)
        return Features(x=corrected.flatten(1, 2), grid=self.grid(batch))

    def correction(self, picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return what is added to a rescaled picture."""
        height, width = picture.shape[2:]
        x = F.pad(picture, (0, -width % self.cell, 0, -height % self.cell), mode="replicate")
        # Channels last in memory, in which convolutions on a CPU take two thirds of the time.
        x = rearrange(x, "b c (h p) (w q) -> b h w (c p q)", p=2, q=2).contiguous().movedim(-1, 1)
        x, kept = self.first(x), []
        for stage, down in zip(self.stages[:-1], self.down, strict=True):
            x = stage(x)
            kept.append(x)
            x = down(x)
        x = self.stages[-1](x)
        for up, joined, skip in reversed(list(zip(self.up, self.joined, kept, strict=True))):
            x = joined(up(x) + skip)
        return F.pixel_shuffle(self.last(F.gelu(x)), 2)[:, :, :height, :width]

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
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b d h w) to (b d h w)."""
        return x + self.body(x)
