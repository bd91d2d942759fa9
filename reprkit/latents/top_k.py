"""TopK: the k largest features of a wide code, all others zero (the k-sparse autoencoder)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit.interfaces import Latent, require
from reprkit.latents.functional import zero_padding
from reprkit.registry.constraints import BelowOne, Width
from reprkit.types import Code, Features
from reprkit.utils import collectives


class TopK(Latent):
    """Keep the ``k`` largest features of each token and set the others to zero (Makhzani and Frey 2013, arXiv 1312.5663).

    ::

        x (b n dim) ──► the k largest of each token ──► z (b n dim), with k values other than zero

    The sparsity is exact and needs no penalty.  Gradients reach the features that were kept.

    A unit that no token keeps gets no gradient and stays dead; large codes lose most of their units so (Gao et al. 2024,
    arXiv 2406.04093, section 2.4, whose remedy needs the decoder's error).  Here a dead unit is kept, in training only,
    at the one token of the batch where it is largest, in addition to the k: the rule of Makhzani and Frey 2015 (arXiv
    1409.2752, "lifetime sparsity") for units in need.  A unit is dead when the moving average of the share of tokens
    that keep it on their own is below ``revive`` times the mean share, k / dim.  ``update`` changes these averages once a
    step, from counts over all views and ranks.

    Args:
        dim: width of the code.
        k: number of features that are kept, at most ``dim``.
        revive: the fraction of the mean share below which a unit is dead, in [0, 1); 0 turns revival off.
        decay: decay of the moving averages, in [0, 1).

    Raises:
        PartArgumentError: an argument is out of range, or k is larger than dim.
    """

    collapse_hint = "a larger k, a larger revive=, or a smaller dim"

    share: Tensor

    def __init__(
        self, dim: Width = 256, *, k: Width = 16, revive: BelowOne = 0.05, decay: BelowOne = 0.99
    ) -> None:
        require(k <= dim, f"k={k} is larger than dim={dim}: there are not that many features to keep")
        super().__init__(in_dim=dim, out_dim=dim)
        self.k, self.revive, self.decay = k, revive, decay
        self.register_buffer("share", torch.full((dim,), k / dim))
        # This step's counts: kept by unit, and tokens.  Not a buffer, since it is joined over ranks in ``update``.
        self._counts: Tensor | None = None

    def forward(self, features: Features) -> Code:
        """Return the sparse code; in training, also count which units were kept."""
        x = zero_padding(features)
        kept = torch.zeros_like(x, dtype=torch.bool).scatter_(-1, x.topk(self.k, dim=-1).indices, True)
        if self.training:
            self._count(kept, features.mask)
            if self.revive:
                kept = kept | self._largest_of_dead_units(x, features.mask)
        return Code.of(features, z=torch.where(kept, x, 0.0).to(features.x.dtype))

    @torch.no_grad()
    def _count(self, kept: Bool[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> None:
        if mask is not None:
            kept = kept & mask.unsqueeze(-1)
        tokens = (
            kept.new_full((), kept.shape[0] * kept.shape[1], dtype=torch.int64)
            if mask is None
            else mask.sum()
        )
        counts = torch.cat([kept.sum((0, 1)), tokens.view(1)]).to(self.share.dtype)
        self._counts = counts if self._counts is None else self._counts + counts

    @torch.no_grad()
    def _largest_of_dead_units(
        self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None
    ) -> Bool[Tensor, "b n d"]:
        """Mark, for each dead unit, the valid token of all ranks where it is largest; ties go to the first."""
        flat = x.flatten(0, 1)
        if mask is not None:
            flat = flat.masked_fill(~mask.flatten().unsqueeze(-1), -torch.inf)
        best, rows = flat.max(0)
        over_ranks: Int[Tensor, " d"] = collectives.gather(best.unsqueeze(0)).argmax(0)
        dead = self.share < self.revive * self.k / self.out_dim
        here = dead & (over_ranks == collectives.rank()) & best.isfinite()
        marked = torch.zeros_like(flat, dtype=torch.bool)
        return marked.scatter_(0, rows.unsqueeze(0), here.unsqueeze(0)).view_as(x)

    @torch.no_grad()
    def update(self) -> None:
        """Update the share of tokens that keep each unit; every rank must call it."""
        counts = self.share.new_zeros(self.out_dim + 1) if self._counts is None else self._counts
        counts = collectives.sum_over_ranks(counts)
        weight = (counts[-1] > 0).to(counts.dtype) * (1 - self.decay)  # 0 in a step without tokens
        self.share.lerp_(counts[:-1] / counts[-1].clamp(min=1), weight)
        self._counts = None
