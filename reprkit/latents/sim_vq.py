"""SimVQ: a codebook that one learned linear map makes of fixed random vectors."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit.interfaces import Latent
from reprkit.kernels.nearest_code import nearest
from reprkit.kernels.straight_through import Commitment, rotate_to
from reprkit.latents.functional import check_indices, fixed_rate_bits, perplexity, zero_padding
from reprkit.registry.constraints import Width
from reprkit.types import Code, Features


class SimVQ(Latent):
    """Vector quantization with a codebook that moves as a whole (Zhu et al. 2024, arXiv 2411.02038).

    ::

        x (b n dim) ──► nearest of e = base @ W + c  (codes dim) ──► z, index
                            base: random, never trained      W, c: trained by loss "codebook"

    A step on any token moves all codes, also those that nothing was assigned to, so none is left behind.  The gradient
    of the code is passed straight through to the features.  Losses, nats an example: "commit", |x - sg(e)|² (weight
    0.25), and "codebook", |sg(x) - e|² (weight 1).  ``Code.bits``: log2(codes) per valid token.

    Args:
        codes: number of codes, at least 2.
        dim: width of a code.
        rotation: give the features the code's gradient turned and scaled as the features are to the code, instead of
            unchanged (the rotation trick, Fifty et al. 2024, arXiv 2410.06424).

    Raises:
        PartArgumentError: an argument is out of range.
    """

    collapse_hint = "a smaller dim, fewer codes, or a higher lr: the codes have to reach the features"

    base: Tensor

    def __init__(
        self, codes: Annotated[int, Ge(2), Le(2**24)] = 512, dim: Width = 64, *, rotation: bool = False
    ) -> None:
        super().__init__(in_dim=dim, out_dim=dim, vocab=(codes,), weights={"commit": 0.25, "codebook": 1.0})
        self.codes, self.rotation = codes, rotation
        self.register_buffer("base", torch.randn(codes, dim) * dim**-0.5)
        self.transform = nn.Linear(dim, dim)

    def table(self) -> Float[Tensor, "k d"]:
        """Return the codes."""
        return self.transform(self.base)

    def forward(self, features: Features) -> Code:
        """Return the nearest codes."""
        mask, batch = features.mask, features.x.shape[0]
        table = self.table()
        x = rearrange(zero_padding(features).to(table.dtype), "b n d -> (b n) d")
        valid = None if mask is None else mask.flatten()
        rows = nearest(x.detach(), table.detach())
        codes = F.embedding(rows, table)
        target, source = codes.detach(), x.detach()
        if valid is not None:  # padded rows have distance zero
            source = torch.where(valid.unsqueeze(-1), source, target)
        codebook = codes if valid is None else torch.where(valid.unsqueeze(-1), codes, target)
        distance = F.mse_loss(source, target, reduction="sum") / batch
        z, commit = Commitment.apply(x, target, distance, target, 1, valid, 1 / batch)
        z = rotate_to(x, target) if self.rotation else z
        indices = rearrange(rows, "(b n) -> b n 1", b=batch)
        return Code.of(
            features,
            z=rearrange(z, "(b n) d -> b n d", b=batch).to(features.x.dtype),
            indices=indices,
            bits=fixed_rate_bits(features, math.log2(self.codes)),
            losses={
                "commit": commit,
                "codebook": F.mse_loss(codebook, source, reduction="sum") / batch,
            },
            metrics={"perplexity": perplexity(indices, mask, self.codes, over_ranks=self.training)},
        )

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """Return the codes of the indices (b n 1).

        Raises:
            PartArgumentError: indices have another shape, or lie outside of [0, codes).
        """
        check_indices(indices, 1, self.codes)
        return F.embedding(indices.squeeze(-1), self.table())
