"""Vision transformer, whose tokens are patches; patches that are not kept are not computed."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor, nn

from reprkit.data.signature import Signature
from reprkit.interfaces import Encoder
from reprkit.layers.attention import Blocks
from reprkit.layers.dense import OneHotLinear
from reprkit.layers.gather_rows import gather_rows, gather_tokens
from reprkit.layers.patches import patch_grid
from reprkit.layers.positions import sinusoidal_positions_2d
from reprkit.layers.value_embedding import Rescale, count_symbols
from reprkit.models.grid import to_tokens
from reprkit.registry.constraints import BelowOne, Count, Depth, Width
from reprkit.types import Batch, Features


class ViTEncoder(Encoder):
    """Vision transformer without a class token (Dosovitskiy et al. 2021, arXiv 2010.11929), fixed positions.

    With ``keep`` (b k) the kept patches are gathered before they are embedded, so the encoder of a masked autoencoder
    computes k patches, not n (He et al. 2021, arXiv 2111.06377, section 3); the features then have ``positions`` and
    ``length``.

    Args:
        patch: side of a patch in pixels; None takes one that fits the image (2 for 8 pixels, 4 for 28 and 32,
            16 for 224).
        width: width of a token; ``heads`` must divide it.
        depth: number of blocks.
        heads: number of attention heads.
        dropout: probability in [0, 1) of dropping an element of a block's output.
        data: the signature of the input, field ``x``, an image (h w c) or a map of symbols (h w).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is neither an image nor a map, or the patch does not divide it.
    """

    provides = frozenset({"keep"})
    places: Tensor

    def __init__(
        self,
        patch: Count | None = None,
        *,
        width: Width = 128,
        depth: Depth = 4,
        heads: Count = 4,
        dropout: BelowOne = 0.0,
        data: Signature,
    ) -> None:
        super().__init__()
        rows, columns, self.patch = patch_grid(data["x"], patch, "encoder vit")
        self.cells = (rows, columns)
        self.out_dim = width
        self.field, values = data["x"], self.patch**2 * data["x"].channels
        self.rescale = nn.Identity() if self.field.discrete else Rescale(self.field)
        self.blocks = Blocks(width, depth=depth, heads=heads, dropout=dropout)
        self.embed: nn.Module = (
            OneHotLinear(values, count_symbols(self.field), width)
            if self.field.discrete
            else nn.Linear(values, width)
        )
        self.register_buffer("places", sinusoidal_positions_2d(self.cells, width), persistent=False)

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the patches (b n width), or those to keep (b k width) in the order of ``keep``."""
        patches = to_tokens(batch["x"], self.cells, self.field.kind)
        positions = self.places
        if keep is not None:
            patches, positions = gather_tokens(patches, keep), gather_rows(positions, keep)
        x = self.embed(self.rescale(patches))
        x = self.blocks(x + positions.to(x.dtype))
        if keep is None:
            return Features(x=x, grid=self.cells)
        return Features(x=x, grid=self.cells, positions=keep, length=self.count(batch))

    def count(self, batch: Batch) -> int:
        """Return the number of patches of an image."""
        return self.cells[0] * self.cells[1]

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return rows and columns of patches."""
        return self.cells
