"""Residual vector quantization: each codebook quantizes the residual of the earlier ones."""

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
from reprkit.kernels.nearest_code import nearest
from reprkit.kernels.straight_through import Commitment
from reprkit.latents.codebook import Codebook
from reprkit.latents.functional import check_indices, fixed_rate_bits, perplexity, zero_padding
from reprkit.registry.constraints import BelowOne, Depth, Share, Width
from reprkit.types import Code, Features
from reprkit.utils import collectives

CHUNK = 1 << 24  # distances that the search for codes holds at a time


class ResidualVQ(Latent):
    """Residual vector quantization: each token is coded by a sum of one code per layer.

    The first layer takes the code nearest to the token, each later layer the code nearest to the residual.
    Input: features (b n ``dim``).  Output: a code of the same width and indices (b n ``layers``).  The
    gradient of the sum is passed straight through to the features.  Loss, nats an example: ``commit``, the
    squared length of each layer's residual, summed over layers (weight 0.25; Défossez et al. 2022, EnCodec,
    arXiv 2210.13438, section 3.4).  ``bits``: log2(codes) per layer and valid token.  Metric ``perplexity``,
    in [1, codes], is the mean over layers.

    Zeghidour et al. 2021 (SoundStream, arXiv 2107.03312), section III.C.  K-means start, statistics and
    revival are as in ``vq``, each layer's computed on the residuals that reach it.

    Args:
        codes: number of entries in each codebook, at least 2.
        layers: number of codebooks.
        dim: width of an entry.
        decay: decay of the moving averages, in [0, 1).
        cosine: normalize the features and the first layer's codes to length 1; later layers refine the
            direction.
        beam: number of partial sums that the search for a token's codes follows from layer to layer; 1 takes the nearest code in
            each layer.  The sum of all layers is never farther from the token than that of the nearest codes.
        kmeans: initialize the codes by k-means on the first training batch instead of with noise.
        revive: a code is dead when its average count is below this fraction of its layer's mean count, in [0,
            1); 0 turns revival off.
        dropout: probability that a training example is coded by its first few layers only (their number is
            drawn uniformly from 1 to ``layers``), so that one model serves every rate: 1 in SoundStream, 0.5
            in DAC (Kumar et al. 2023, arXiv 2306.06546).  Indices are reported for all layers; ``bits`` counts
            the layers used.

    Raises:
        PartArgumentError: an argument is out of range.
    """

    def __init__(
        self,
        codes: Annotated[int, Ge(2), Le(2**24)] = 512,
        layers: Depth = 4,
        dim: Width = 64,
        *,
        decay: BelowOne = 0.99,
        cosine: bool = False,
        beam: Annotated[int, Ge(1), Le(256)] = 1,
        kmeans: bool = True,
        revive: BelowOne = 0.05,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__(in_dim=dim, out_dim=dim, vocab=(codes,) * layers, weights={"commit": 0.25})
        self.cosine, self.beam, self.dropout = cosine, beam, dropout
        self.codebook = Codebook(
            slots=layers, codes=codes, dim=dim, decay=decay, unit=int(cosine), kmeans=kmeans, revive=revive
        )

    def forward(self, features: Features) -> Code:
        """Return the sum of the layers' codes; in training, also accumulate the assignment statistics."""
        book, mask, batch = self.codebook, features.mask, features.x.shape[0]
        x = rearrange(zero_padding(features).to(book.table.dtype), "b n d -> (b n) d")
        if self.cosine:
            x = F.normalize(x, dim=-1)
        valid = None if mask is None else mask.flatten()
        depth = self._draw_depth(features)
        with torch.no_grad():
            residual, residuals, chosen = x.detach(), [], []
            total = z = codes = torch.zeros_like(x)
            commit = x.new_zeros(())
            starting = self.training and book.needs_start
            found = search_codes(x, book.table, self.beam) if self.beam > 1 and not starting else None
            for layer in range(book.slots):
                if starting:
                    book.start(layer, residual, valid)
                residuals.append(residual)
                chosen.append(book.nearest(residual, layer) if found is None else found[:, layer])
                total = total + F.embedding(chosen[-1], book.table[layer])
                residual = x.detach() - total
                used = None if depth is None else depth > layer
                z, codes = _where(used, total, z), codes + _where(used, total, 0)
                remainder = _where(valid, _where(used, residual, 0), 0)
                commit = commit + remainder.square().sum() / batch
            rows = torch.stack(chosen, 1)
            if self.training:
                book.accumulate(residuals, rows, _assignment_mask(rows, valid, depth))

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
        """Sum the codes of these indices; fewer than ``layers`` indices are those of the first layers.

        Raises:
            PartArgumentError: there is no index, more than one per layer, or an index is out of range.
        """
        book, depth = self.codebook, indices.shape[-1]
        check_indices(indices, max(1, min(depth, book.slots)), book.codes)
        z = book.table.new_zeros(*indices.shape[:-1], book.dim)
        for layer in range(depth):  # in the order of forward, for equal rounding
            z = z + F.embedding(indices[..., layer], book.table[layer])
        return z

    @property
    def starts(self) -> bool:
        """Whether the codes are still to be initialized by k-means."""
        return self.codebook.needs_start

    def update(self) -> None:
        """Update the codebooks from the statistics of the step; every rank must call it."""
        self.codebook.update()

    def _draw_depth(self, features: Features) -> Int[Tensor, " m"] | None:
        """Draw the number of layers that code each token; None means all layers."""
        if not (self.training and self.dropout):
            return None
        batch, tokens, _ = features.x.shape
        layers = self.codebook.slots
        uniform = collectives.global_draw(
            lambda shape: torch.rand(shape, device=features.x.device), (batch, 2)
        )
        fewer = 1 + (uniform[:, 1] * layers).long().clamp(max=layers - 1)
        return torch.where(uniform[:, 0] < self.dropout, fewer, layers).repeat_interleave(tokens)


@torch.no_grad()
def search_codes(x: Float[Tensor, "m d"], tables: Float[Tensor, "l k d"], beam: int) -> Int[Tensor, "m l"]:
    """Return one code per layer whose sum is near to each vector, by beam search, or the nearest codes where these are nearer.

    In each layer the ``beam`` sums with the smallest squared distance remain, of all that end in one of its codes.
    """
    rows = max(1, CHUNK // (beam * tables.shape[1]))
    return torch.cat([_search_chunk(part, tables, beam) for part in x.split(rows)])


def _search_chunk(x: Tensor, tables: Tensor, beam: int) -> Int[Tensor, "m l"]:
    sums, greedy_sum = x.new_zeros(len(x), 1, x.shape[1]), torch.zeros_like(x)
    rows = greedy = torch.zeros(len(x), 1, 0, dtype=torch.int64, device=x.device)
    for table in tables:
        squares = table.square().sum(-1)
        residual = x.unsqueeze(1) - sums
        costs = residual.square().sum(-1, keepdim=True) - 2 * residual @ table.T + squares
        best = costs.flatten(1).topk(min(beam, costs.shape[1] * costs.shape[2]), largest=False).indices
        parent, code = best // len(table), best % len(table)
        sums = sums.gather(1, parent.unsqueeze(-1).expand(-1, -1, x.shape[1])) + table[code]
        rows = torch.cat(
            [rows.gather(1, parent.unsqueeze(-1).expand(-1, -1, rows.shape[-1])), code.unsqueeze(-1)], -1
        )
        near = nearest(x - greedy_sum, table)
        greedy_sum = greedy_sum + table[near]
        greedy = torch.cat([greedy, near[:, None, None]], -1)
    errors = (x.unsqueeze(1) - sums).square().sum(-1)
    error, first = errors.min(1)
    found = rows.gather(1, first[:, None, None].expand(-1, 1, rows.shape[-1])).squeeze(1)
    nearer = (x - greedy_sum).square().sum(-1) <= error
    return torch.where(nearer.unsqueeze(-1), greedy.squeeze(1), found)


def _where(rows: Tensor | None, value: Tensor, other: Tensor | float) -> Tensor:
    """Select ``value`` in these rows (None: in all rows) and ``other`` elsewhere."""
    return value if rows is None else torch.where(rows.unsqueeze(-1), value, other)


def _assignment_mask(rows: Tensor, valid: Tensor | None, depth: Tensor | None) -> Bool[Tensor, "m s"] | None:
    """Mark the assignments that enter the statistics: those of valid tokens, in the layers that code them."""
    if valid is None and depth is None:
        return None
    mask = torch.ones_like(rows, dtype=torch.bool)
    if valid is not None:
        mask = mask & valid.unsqueeze(-1)
    if depth is not None:
        mask = mask & (depth.unsqueeze(-1) > torch.arange(rows.shape[1], device=rows.device))
    return mask
