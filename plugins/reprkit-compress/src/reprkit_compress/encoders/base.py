"""Base of the analysis transforms."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit import Encoder, Features
from reprkit.errors import BuildError
from reprkit.types import Batch
from reprkit_compress.layers.maps import map_size


class MapEncoder(Encoder):
    """Base of encoders of pictures of any size whose sides are multiples of ``side``; a subclass sets ``rescale`` and ``layers``.

    Tokens are the cells of the last map (b n d), and ``grid`` its rows and columns.

    Args:
        out_dim: channels of the last map.
        side: pixels of a cell's side.
        part: the part's name in errors.
        setting: the argument that sets ``side``, and its value, in errors.
    """

    provides = frozenset({"any_size"})
    rescale: nn.Module
    layers: nn.Sequential

    def __init__(self, out_dim: int, side: int, part: str, setting: str) -> None:
        super().__init__()
        self.out_dim, self.side, self.part, self.setting = out_dim, side, part, setting

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the cells of the last map (b n d).

        Raises:
            BuildError: ``keep`` was given; neighboring cells share pixels.
            DataError: pictures whose sides are no multiples of ``side``.
        """
        if keep is not None:
            raise BuildError(f"{self.part} cannot read only some cells: neighbors share pixels; use vit")
        grid = self.grid(batch)
        picture = rearrange(self.rescale(batch["x"]), "b h w c -> b c h w")  # a view: channels-last in memory
        return Features(x=rearrange(self.to_map(picture), "b d h w -> b (h w) d"), grid=grid)

    def to_map(self, picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Return the last map of a rescaled picture."""
        return self.layers(picture)

    def count(self, batch: Batch) -> int:
        """Return the number of cells of the last map."""
        rows, columns = self.grid(batch)
        return rows * columns

    def grid(self, batch: Batch) -> tuple[int, int]:
        """Return rows and columns of the last map."""
        return map_size(batch, self.side, f"{self.part} with {self.setting}")
