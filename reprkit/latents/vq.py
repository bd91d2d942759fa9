"""Vector quantisation: each token becomes the nearest code of a learned codebook."""

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
from reprkit.kernels.straight_through import Commitment
from reprkit.latents.codebook import Codebook
from reprkit.latents.functional import check_indices, fixed_rate_bits, perplexity, zero_padding
from reprkit.registry.constraints import BelowOne, Depth, Width
from reprkit.types import Code, Features


class VQ(Latent):
    """The code of a token is the nearest of ``codes`` vectors; with several codebooks, of each equal slice.

    Features (b n ``codebooks * dim``) to a code of the same width and indices (b n ``codebooks``).  Gradients
    pass straight through to the features.  Losses, nats an example: ``commit``, |z_e - sg(e)|² (weight
    0.25), and with ``update="gradient"`` ``codebook``, |sg(z_e) - e|² (weight 1).  ``bits``: log2(codes) a
    codebook and valid token.  Metric ``perplexity`` in [1, codes], mean over codebooks.

    The first training batch sets the codes by k-means.  ``forward`` only counts what is chosen; ``update``
    applies it, over all views and ranks, and gives codes that died a vector of the last view.

    van den Oord et al. 2017 (arXiv 1711.00937), equation 3 and appendix A.1; cosine codes: Yu et al. 2022
    (ViT-VQGAN, arXiv 2110.04627), section 3.2; k-means start and revival: Zeghidour et al. 2021 (SoundStream,
    arXiv 2107.03312), section III.C.

    Args:
        codes: entries of each codebook, at least 2.
        dim: width of an entry.
        codebooks: how many slices of the features have a codebook of their own.
        update: how codes are learned: "ema" (running means of the vectors that chose them) or "gradient".
        decay: of the running means, in [0, 1): 0.99 remembers about 100 steps.
        cosine: compare directions only: features and codes have length 1.
        kmeans: start from k-means on the first training batch instead of from noise.
        revive: a code is dead when its running count is under this share of its codebook's mean count, in
            [0, 1); 0.05 is about 300 steps without a vector at a decay of 0.99.  0 turns revival off.

    Raises:
        PartArgumentError: a value out of its range.
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
        kmeans: bool = True,
        revive: BelowOne = 0.05,
    ) -> None:
        width = codebooks * dim
        weights = {"commit": 0.25} | ({"codebook": 1.0} if update == "gradient" else {})
        super().__init__(in_dim=width, out_dim=width, vocab=(codes,) * codebooks, weights=weights)
        self.cosine, self.learned = cosine, update == "gradient"
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
        """The nearest codes; in training their choice is also counted."""
        book, mask, batch = self.codebook, features.mask, features.x.shape[0]
        x = rearrange(zero_padding(features).to(book.table.dtype), "b n (q d) -> (b n) q d", q=book.slots)
        if self.cosine:
            x = F.normalize(x, dim=-1)
        valid = None if mask is None else mask.flatten()
        slices = x.detach().unbind(1)
        if self.training and book.waiting:
            for slot, each in enumerate(slices):
                book.start(slot, each, valid)
        rows = torch.stack([book.nearest(each, slot) for slot, each in enumerate(slices)], 1)
        if self.training:
            book.accumulate(slices, rows, None if valid is None else valid.unsqueeze(-1).expand_as(rows))

        x = rearrange(x, "m q d -> m (q d)")
        codes = rearrange(book.look_up(rows), "m q d -> m (q d)")
        target, source = codes.detach(), x.detach()
        if valid is not None:  # padded rows are at no distance
            source = torch.where(valid.unsqueeze(-1), source, target)
        losses = {"commit": F.mse_loss(source, target, reduction="sum") / batch}
        if self.learned:
            losses["codebook"] = F.mse_loss(codes, source, reduction="sum") / batch
        z, losses["commit"] = Commitment.apply(x, target, losses["commit"], target, 1, valid, 1 / batch)
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
        """The codes at these indices, slices side by side.

        Raises:
            PartArgumentError: not one index a codebook, or one out of range.
        """
        check_indices(indices, self.codebook.slots, self.codebook.codes)
        return rearrange(self.codebook.look_up(indices), "b n q d -> b n (q d)")

    def update(self) -> None:
        """Apply the step's choices to the codebooks; every rank must call it."""
        self.codebook.update()
