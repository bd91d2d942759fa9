"""Vision transformer decoder: from the code, resampled to a grid of patches, to patches."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.decoders.head import Head, Scale
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Likelihood
from reprkit.layers.attention import Blocks
from reprkit.layers.patches import patch_grid
from reprkit.layers.positions import sinusoidal_positions_2d
from reprkit.layers.resample_tokens import ResampleTokens
from reprkit.registry.constraints import BelowOne, Count, Depth, Width
from reprkit.types import Decoded, Features


class ViTDecoder(Decoder):
    """The masked autoencoder's decoder, to patches (b n p) (He et al. 2021, arXiv 2111.06377, section 3).

    The code's tokens are put to their positions, with a learned mask token where there is none; position embeddings are
    added, and blocks of self-attention follow.  A code of one token is repeated at all positions.

    Args:
        patch: side of a patch in pixels; None takes one that fits the image, as the encoder does.
        width: width of a token; ``heads`` must divide it.
        depth: number of blocks.
        heads: number of attention heads.
        dropout: probability in [0, 1) of dropping an element of a block's output.
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        scale: scale of a density such as a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed number.
        data: the signature of the output, field ``x``, an image (h w c) or a map of symbols (h w).
        tokens: number of tokens of the code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is neither an image nor a map, or the patch does not divide it.
    """

    provides = frozenset({"queries"})
    places: Tensor

    def __init__(
        self,
        patch: Count | None = None,
        *,
        width: Width = 128,
        depth: Depth = 2,
        heads: Count = 4,
        dropout: BelowOne = 0.0,
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__()
        rows, columns, self.patch = patch_grid(data["x"], patch, "decoder vit")
        self.cells = (rows, columns)
        self.blocks = Blocks(width, depth=depth, heads=heads, dropout=dropout)
        self.code = ResampleTokens(width, tokens=tokens, places=rows * columns, absent=True)
        self.in_dim = self.code.in_dim
        values = self.patch**2 * data["x"].channels
        self.head = Head(width, values, field=data["x"], likelihood=likelihood, scale=scale)
        self.register_buffer("places", sinusoidal_positions_2d(self.cells, width), persistent=False)

    def forward(
        self,
        features: Features | None,
        *,
        teacher: Tensor | None = None,
        length: int | None = None,
        queries: Int[Tensor, "b m"] | None = None,
    ) -> Decoded:
        """Return the likelihood of the image; every patch is a token (b n p), with ``queries`` only those (b m p)."""
        if features is None:
            raise BuildError("decoder vit needs a code, and there is none")
        x, index = self._resample_code(features)
        return self.head(self.blocks(x, queries=queries, index=index), grid=self.cells)

    def _resample_code(self, features: Features) -> tuple[Tensor, Tensor | None]:
        """Return the code at its positions (b n width) and None; or distinct tokens (r width) and their index by position (b n)."""
        distinct = self.code.distinct_tokens(features, self.places)
        if distinct is not None:
            return distinct
        x = self.code(features, len(self.places), self.cells)
        return x + self.places.to(x.dtype), None
