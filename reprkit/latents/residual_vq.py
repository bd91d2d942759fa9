"""Residual vector quantisation: each codebook quantises what the earlier ones left over."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit.interfaces import Latent
from reprkit.kernels.straight_through import Commitment
from reprkit.latents.codebook import Codebook
from reprkit.latents.functional import check_indices, fixed_rate_bits, perplexity, zero_padding
from reprkit.registry.constraints import BelowOne, Depth, Share, Width
from reprkit.types import Code, Features
from reprkit.utils import collectives


class ResidualVQ(Latent):
    """The code of a token is a sum: the nearest code, plus the code nearest to what that leaves, and so on.

    Features (b n ``dim``) to a code of the same width and indices (b n ``layers``).  Gradients pass straight
    through the sum.  Loss, nats an example: ``commit``, the squared length of what each layer leaves, summed
    over layers (weight 0.25; Défossez et al. 2022, EnCodec, arXiv 2210.13438, section 3.4).  ``bits``:
    log2(codes) a layer and valid token.  Metric ``perplexity`` in [1, codes], mean over layers.

    Zeghidour et al. 2021 (SoundStream, arXiv 2107.03312), section III.C; start, statistics and revival as in
    ``vq``, each layer's on what the earlier ones leave for it.

    Args:
        codes: entries of each codebook, at least 2.
        layers: how many codebooks.
        dim: width of an entry.
        decay: of the running means, in [0, 1).
        cosine: features and the first layer's codes have length 1; later layers refine the direction.
        kmeans: start from k-means on the first training batch instead of from noise.
        revive: a code is dead when its running count is under this share of its layer's mean count, in [0,
            1); 0 turns revival off.
        dropout: probability that a training example is coded by its first few layers only (how many is drawn
            evenly from 1 to ``layers``), so that one model serves every rate: 1 in SoundStream, 0.5 in DAC
            (Kumar et al. 2023, arXiv 2306.06546).  Indices are reported for all layers; ``bits`` counts
            those used.

    Raises:
        PartArgumentError: a value out of its range.
    """

    def __init__(
        self,
        codes: Annotated[int, Ge(2), Le(2**24)] = 512,
        layers: Depth = 4,
        dim: Width = 64,
        *,
        decay: BelowOne = 0.99,
        cosine: bool = False,
        kmeans: bool = True,
        revive: BelowOne = 0.05,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__(in_dim=dim, out_dim=dim, vocab=(codes,) * layers, weights={"commit": 0.25})
        self.cosine, self.dropout = cosine, dropout
        self.codebook = Codebook(
            slots=layers, codes=codes, dim=dim, decay=decay, unit=int(cosine), kmeans=kmeans, revive=revive
        )

    def forward(self, features: Features) -> Code:
        """The sum of the layers' codes; in training their choice is also counted."""
        book, mask, batch = self.codebook, features.mask, features.x.shape[0]
        x = rearrange(zero_padding(features).to(book.table.dtype), "b n d -> (b n) d")
        if self.cosine:
            x = F.normalize(x, dim=-1)
        valid = None if mask is None else mask.flatten()
        depth = self._depth(features)
        with torch.no_grad():
            residual, residuals, chosen = x.detach(), [], []
            total = z = codes = torch.zeros_like(x)
            commit = x.new_zeros(())
            for layer in range(book.slots):
                if self.training and book.waiting:
                    book.start(layer, residual, valid)
                residuals.append(residual)
                chosen.append(book.nearest(residual, layer))
                total = total + F.embedding(chosen[-1], book.table[layer])
                residual = x.detach() - total
                used = None if depth is None else depth > layer
                z, codes = _where(used, total, z), codes + _where(used, total, 0)
                left = _where(valid, _where(used, residual, 0), 0)
                commit = commit + left.square().sum() / batch
            rows = torch.stack(chosen, 1)
            if self.training:
                book.accumulate(residuals, rows, _counted(rows, valid, depth))

        layers = book.slots if depth is None else depth.unsqueeze(-1)
        z, commit = Commitment.apply(x, z, commit, codes, layers, valid, 1 / batch)
        bits = fixed_rate_bits(features, math.log2(book.codes))
        indices = rearrange(rows, "(b n) q -> b n q", b=batch)
        return Code.of(
            features,
            z=rearrange(z, "(b n) d -> b n d", b=batch).to(features.x.dtype),
            indices=indices,
            bits=bits * (book.slots if depth is None else depth.view(batch, -1)[:, 0]),
            losses={"commit": commit},
            metrics={"perplexity": perplexity(indices, mask, book.codes, over_ranks=self.training)},
        )

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """The sum of the codes at these indices; where fewer than ``layers`` are given, of the first layers.

        Raises:
            PartArgumentError: no index, more than one a layer, or one out of range.
        """
        book, given = self.codebook, indices.shape[-1]
        check_indices(indices, max(1, min(given, book.slots)), book.codes)
        z = book.table.new_zeros(*indices.shape[:-1], book.dim)
        for layer in range(given):  # one after another, as in forward: the same rounding
            z = z + F.embedding(indices[..., layer], book.table[layer])
        return z

    def update(self) -> None:
        """Apply the step's choices to the codebooks; every rank must call it."""
        self.codebook.update()

    def _depth(self, features: Features) -> Int[Tensor, " m"] | None:
        """By how many layers each token is coded; None: by all."""
        if not (self.training and self.dropout):
            return None
        batch, tokens, _ = features.x.shape
        layers = self.codebook.slots
        drawn = collectives.global_draw(lambda shape: torch.rand(shape, device=features.x.device), (batch, 2))
        fewer = 1 + (drawn[:, 1] * layers).long().clamp(max=layers - 1)
        return torch.where(drawn[:, 0] < self.dropout, fewer, layers).repeat_interleave(tokens)


def _where(rows: Tensor | None, value: Tensor, other: Tensor | float) -> Tensor:
    """``value`` in these rows (None: in all), ``other`` elsewhere."""
    return value if rows is None else torch.where(rows.unsqueeze(-1), value, other)


def _counted(rows: Tensor, valid: Tensor | None, depth: Tensor | None) -> Bool[Tensor, "m s"] | None:
    """Which choices count in the statistics: of valid tokens, by the layers that code them."""
    if valid is None and depth is None:
        return None
    counted = torch.ones_like(rows, dtype=torch.bool)
    if valid is not None:
        counted = counted & valid.unsqueeze(-1)
    if depth is not None:
        counted = counted & (depth.unsqueeze(-1) > torch.arange(rows.shape[1], device=rows.device))
    return counted
