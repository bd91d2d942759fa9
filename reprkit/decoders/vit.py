"""Transformer decoder of images: places of patches, filled from the code, to patches."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.decoders.head import Head, Scale
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder
from reprkit.layers.attention import Blocks
from reprkit.layers.patches import patch_grid
from reprkit.layers.positions import sinusoidal_positions_2d
from reprkit.layers.resample_tokens import ResampleTokens
from reprkit.models.likelihoods import LikelihoodName
from reprkit.registry.constraints import BelowOne, Count, Depth, Width
from reprkit.types import Decoded, Features


class ViTDecoder(Decoder):
    """The masked autoencoder's decoder, to patches (b n p) (He et al. 2021, arXiv 2111.06377, section 3).

    The code's tokens are put to their places, a learned mask token stands where there is none, positions are
    added, and blocks of self-attention follow.  A code of one token is put everywhere.

    Args:
        patch: side of a patch in pixels; None takes one that fits the image, as the encoder does.
        width: of a token; ``heads`` must divide it.
        depth: how many blocks.
        heads: attention heads.
        dropout: probability in [0, 1) of dropping an element of a block's output.
        likelihood: "gaussian" or "bernoulli"; None takes the one that suits the data.
        scale: of a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed standard deviation.
        data: the signature of what it makes, field ``x``, an image (h w c).
        tokens: tokens of the code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, or the patch does not divide it.
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
        likelihood: LikelihoodName | None = None,
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
        """Every patch is a token (b n p); with ``only`` just those (b m p)."""
        if features is None:
            raise BuildError("decoder vit makes an image from its code, and there is none")
        x, index = self._placed(features)
        return self.head(self.blocks(x, queries=queries, index=index), grid=self.cells)

    def _placed(self, features: Features) -> tuple[Tensor, Tensor | None]:
        """The code at its places (b n width); or its distinct tokens (r width) and which stands where (b n)."""
        found = self.code.distinct(features, self.places)
        if found is not None:
            return found
        x = self.code(features, len(self.places), self.cells)
        return x + self.places.to(x.dtype), None
