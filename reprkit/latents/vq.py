"""Vector quantization: replace each token by the nearest code of a learned codebook."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.interfaces import Latent
from reprkit.kernels.straight_through import Commitment, rotate_to
from reprkit.latents.codebook import Codebook
from reprkit.latents.functional import check_indices, fixed_rate_bits, perplexity, zero_padding
from reprkit.registry.constraints import BelowOne, Depth, Width
from reprkit.types import Code, Features


class VQ(Latent):
    """Vector quantization: each token is coded by the nearest of ``codes`` vectors.

    With several codebooks, the features are cut into equal slices and each slice has a codebook of its own.
    Input: features (b n ``codebooks * dim``).  Output: a code of the same width and indices (b n
    ``codebooks``).  The gradient of the code is passed straight through to the features.  Losses, nats an
    example: ``commit``, |z_e - sg(e)|² (weight 0.25), and with ``update="gradient"`` also ``codebook``,
    |sg(z_e) - e|² (weight 1).  ``bits``: log2(codes) per codebook and valid token.  Metric ``perplexity``, in
    [1, codes], is the mean over codebooks.

    The first training batch initializes the codes by k-means.  ``forward`` only accumulates assignment
    statistics; ``update`` applies them, summed over all views and ranks, and replaces each dead code by a
    vector of the last view.

    van den Oord et al. 2017 (arXiv 1711.00937), equation 3 and appendix A.1; cosine codes: Yu et al. 2022
    (ViT-VQGAN, arXiv 2110.04627), section 3.2; k-means start and revival: Zeghidour et al. 2021 (SoundStream,
    arXiv 2107.03312), section III.C.

    Args:
        codes: number of entries in each codebook, at least 2.
        dim: width of an entry.
        codebooks: number of codebooks, one for each slice of the features.
        update: how codes are learned: "ema" (exponential moving average of the vectors assigned to them) or
            "gradient".
        decay: decay of the moving averages, in [0, 1): 0.99 averages over about 100 steps.
        cosine: compare by cosine similarity: features and codes are normalized to length 1.
        rotation: give the features the code's gradient turned and scaled as the features are to the code, instead of
            unchanged (the rotation trick, Fifty et al. 2024, arXiv 2410.06424).
        kmeans: initialize the codes by k-means on the first training batch instead of with noise.
        revive: a code is dead when its average count is below this fraction of its codebook's mean count, in
            [0, 1); 0.05 is about 300 steps without a vector at a decay of 0.99.  0 turns revival off.

    Raises:
        PartArgumentError: an argument is out of range.
    """

    def __init__(
        self,
        codes: Annotated[int, Ge(2), Le(2**24)] = 512,
        dim: Width = 64,
        *,
        codebooks: Depth = 1,
        update: Literal["ema", "gradient"] = "ema",
        decay: BelowOne = 0.99,
        cosine: bool = False,
        rotation: bool = False,
        kmeans: bool = True,
        revive: BelowOne = 0.05,
    ) -> None:
        width = codebooks * dim
        weights = {"commit": 0.25} | ({"codebook": 1.0} if update == "gradient" else {})
        super().__init__(in_dim=width, out_dim=width, vocab=(codes,) * codebooks, weights=weights)
        self.cosine, self.rotation, self.learned = cosine, rotation, update == "gradient"
        self.codebook = Codebook(
            slots=codebooks,
            codes=codes,
            dim=dim,
            learned=self.learned,
            decay=decay,
            unit=codebooks if cosine else 0,
            kmeans=kmeans,
            revive=revive,
        )

    def forward(self, features: Features) -> Code:
        """Return the nearest codes; in training, also accumulate the assignment statistics."""
        book, mask, batch = self.codebook, features.mask, features.x.shape[0]
        x = rearrange(zero_padding(features).to(book.table.dtype), "b n (q d) -> (b n) q d", q=book.slots)
        if self.cosine:
            x = F.normalize(x, dim=-1)
        valid = None if mask is None else mask.flatten()
        slices = x.detach().unbind(1)
        if self.training and book.needs_start:
            for slot, vectors in enumerate(slices):
                book.start(slot, vectors, valid)
        rows = torch.stack([book.nearest(vectors, slot) for slot, vectors in enumerate(slices)], 1)
        if self.training:
            book.accumulate(slices, rows, None if valid is None else valid.unsqueeze(-1).expand_as(rows))

        looked_up = book.look_up(rows)
        rotated = rotate_to(x, looked_up.detach()) if self.rotation else None
        x, codes = (rearrange(each, "m q d -> m (q d)") for each in (x, looked_up))
        target, source = codes.detach(), x.detach()
        if valid is not None:  # padded rows have distance zero
            source = torch.where(valid.unsqueeze(-1), source, target)
        losses = {"commit": F.mse_loss(source, target, reduction="sum") / batch}
        if self.learned:
            losses["codebook"] = F.mse_loss(codes, source, reduction="sum") / batch
        z, losses["commit"] = Commitment.apply(x, target, losses["commit"], target, 1, valid, 1 / batch)
        z = z if rotated is None else rearrange(rotated, "m q d -> m (q d)")
        indices = rearrange(rows, "(b n) q -> b n q", b=batch)
        return Code.of(
            features,
            z=rearrange(z, "(b n) d -> b n d", b=batch).to(features.x.dtype),
            indices=indices,
            bits=fixed_rate_bits(features, book.slots * math.log2(book.codes)),
            losses=losses,
            metrics={"perplexity": perplexity(indices, mask, book.codes, over_ranks=self.training)},
        )

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """Look up the codes of these indices and concatenate the slices.

        Raises:
            PartArgumentError: there is not one index per codebook, or an index is out of range.
        """
        check_indices(indices, self.codebook.slots, self.codebook.codes)
        return rearrange(self.codebook.look_up(indices), "b n q d -> b n (q d)")

    @property
    def starts(self) -> bool:
        """Whether the codes are still to be initialized by k-means."""
        return self.codebook.needs_start

    def update(self) -> None:
        """Update the codebooks from the statistics of the step; every rank must call it."""
        self.codebook.update()
