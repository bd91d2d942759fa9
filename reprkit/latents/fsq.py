"""Finite scalar quantization: a few bounded dimensions, each rounded to one of a few values."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le, MinLen
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.interfaces import Latent, require
from reprkit.latents.functional import (
    check_indices,
    fixed_rate_bits,
    perplexity,
    straight_through,
    zero_padding,
)
from reprkit.registry.constraints import Depth
from reprkit.types import Code, Features

MARGIN = (
    1e-3  # the bounds lie this much further out, so that the outermost values are reached (the authors' code)
)
LARGEST = 2**24


class FSQ(Latent):
    """Finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505): a codebook without codes to learn.

    ::

        x (b n codebooks*d) ──► bounded to d small ranges by tanh ──► rounded ──► divided to [-1, 1] = z
                                                                         └──► one index of prod(levels)

    Dimension i takes ``levels[i]`` values; all combinations are the codebook.  The gradient of rounding is passed
    straight through; that of the bound, tanh, is exact (their appendix A.1).  There is no loss, no start and no
    dead code, since nothing is learned.  An even number of levels is not symmetric about 0, as in the paper.

    ``Code.bits`` is a fixed rate: log2 of the number of codes per codebook and valid token.  Metric
    "perplexity", in [1, codes], is the mean over codebooks.

    Args:
        levels: number of values of each dimension.  The paper recommends (8, 6, 5) for about 2^8 codes, (8, 5, 5, 5) for
            2^10, (7, 5, 5, 5, 5) for 2^12, (8, 8, 8, 6, 5) for 2^14 and (8, 8, 8, 5, 5, 5) for 2^16.
        codebooks: number of such codes side by side; the width is ``codebooks * len(levels)``.

    Raises:
        PartArgumentError: an argument is out of range, or the levels make more than 2^24 codes.
    """

    collapse_hint = "fewer levels, more steps, or a norm in the encoder: codes come from the features alone"

    sizes: Tensor
    strides: Tensor

    def __init__(
        self,
        levels: Annotated[tuple[Annotated[int, Ge(2), Le(2**16)], ...], MinLen(1)] = (8, 5, 5, 5),
        *,
        codebooks: Depth = 1,
    ) -> None:
        codes, width = math.prod(levels), codebooks * len(levels)
        require(codes <= LARGEST, f"levels={levels} make {codes} codes, more than 2^24; use codebooks=")
        super().__init__(in_dim=width, out_dim=width, vocab=(codes,) * codebooks)
        self.codes, self.codebooks = codes, codebooks
        strides = [math.prod(levels[:position]) for position in range(len(levels))]
        self.register_buffer("sizes", torch.tensor(levels), persistent=False)
        self.register_buffer("strides", torch.tensor(strides), persistent=False)

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n codebooks*d)."""
        x = rearrange(zero_padding(features), "b n (c d) -> b n c d", c=self.codebooks)
        half = (self.sizes - 1) * (1 + MARGIN) / 2
        offset = torch.where(self.sizes % 2 == 0, 0.5, 0.0)
        bounded = torch.tanh(x + torch.atanh(offset / half)) * half - offset
        whole = bounded.round()
        middle = self.sizes // 2
        indices = ((whole.long() + middle) * self.strides).sum(-1)
        return Code.of(
            features,
            z=(straight_through(whole / middle, bounded / middle)).flatten(2).to(features.x.dtype),
            indices=indices,
            bits=fixed_rate_bits(features, self.codebooks * math.log2(self.codes)),
            metrics={"perplexity": perplexity(indices, features.mask, self.codes, over_ranks=self.training)},
        )

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """Return the values in [-1, 1] that the indices (b n codebooks) stand for.

        Raises:
            PartArgumentError: indices have another shape, or lie outside of [0, codes).
        """
        check_indices(indices, self.codebooks, self.codes)
        middle = self.sizes // 2
        whole = indices.unsqueeze(-1) // self.strides % self.sizes - middle
        return (whole / middle).flatten(2)
