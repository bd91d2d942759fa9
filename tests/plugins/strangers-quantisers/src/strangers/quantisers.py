"""Two quantisers of a public library, as they are, behind reprkit's latent contract."""

import math

import torch
from vector_quantize_pytorch import FSQ, LFQ

import reprkit as rk


class PublicFSQ(rk.Latent):
    """Finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505), as lucidrains wrote it.

    Args:
        levels: how many values each dimension takes.
    """

    def __init__(self, levels: tuple[int, ...] = (8, 5, 5)):
        super().__init__(in_dim=len(levels), out_dim=len(levels), vocab=(math.prod(levels),))
        self.quantiser = FSQ(list(levels))

    def forward(self, features):
        """The code of features (b n d)."""
        z, indices = self.quantiser(features.x)
        return rk.Code.of(
            features, z=z, indices=indices.long().unsqueeze(-1), bits=_price(features, self.vocab[0])
        )

    def embed(self, indices):
        """The code that indices stand for."""
        return self.quantiser.indices_to_codes(indices.squeeze(-1))


class PublicLFQ(rk.Latent):
    """Look-up free quantisation (Yu et al. 2023, arXiv 2310.05737), as lucidrains wrote it.

    Args:
        bits: dimensions of the code, a bit each.
    """

    def __init__(self, bits: int = 4):
        super().__init__(in_dim=bits, out_dim=bits, vocab=(2**bits,), weights={"entropy": 0.1})
        self.quantiser = LFQ(dim=bits, codebook_size=2**bits)

    def forward(self, features):
        """The code of features (b n d)."""
        z, indices, loss = self.quantiser(features.x, mask=features.mask)
        tokens = features.x.shape[1]
        return rk.Code.of(
            features,
            z=z,
            indices=indices.long().unsqueeze(-1),
            bits=_price(features, self.vocab[0]),
            losses={"entropy": loss * tokens},
        )

    def embed(self, indices):
        """The code that indices stand for."""
        return self.quantiser.indices_to_codes(indices.squeeze(-1))


def _price(features, codes):
    x, mask = features.x, features.mask
    tokens = torch.full(x.shape[:1], x.shape[1]) if mask is None else mask.sum(1)
    return tokens.to(x.device) * math.log2(codes)
