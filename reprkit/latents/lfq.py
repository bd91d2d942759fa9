"""Lookup-free quantization: the signs of the features, kept in use by an entropy penalty."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.interfaces import Latent
from reprkit.latents.functional import (
    check_indices,
    entropy_terms,
    fixed_rate_bits,
    perplexity,
    straight_through,
    sum_per_example,
    token_statistics,
    zero_padding,
)
from reprkit.registry.constraints import Depth, NonNegative, Positive
from reprkit.types import Code, Features


class LFQ(Latent):
    """Lookup-free quantization (Yu et al. 2023, MAGVIT-2, arXiv 2310.05737): the code is the sign of each feature.

    ::

        x (b n codebooks*bits) ──► z = +1 where x > 0, else -1   ──► one index of 2^bits, the first bit the highest
                               └──► p(code) = softmax of 2 x·code / temperature over all 2^bits codes ──► "entropy"

    The gradient of z is passed straight through to x.  Losses, nats an example, summed over codebooks and tokens:

    - "entropy" (weight ``entropy``): the mean entropy of p less ``diversity`` times the entropy of the mean p, over the
      valid tokens of all ranks (their equation 6): codes become certain, and all of them used;
    - "commit" (weight ``commit``): |x - sg(z)|², their section 3.1.

    p is a product over bits, so the first entropy is a sum over bits, exact at any number of them.  The entropy of
    the mean is exact over groups of at most ``group`` bits, and their sum bounds that of all bits from above: 18 bits
    cost two tables of 512 codes instead of one of 262,144.

    ``binary`` has the same values with one index per bit, sampled in training.  ``Code.bits`` is a fixed rate, ``bits``
    per codebook and valid token.  Metric "perplexity", in [1, 2^bits], is the mean over codebooks.

    Args:
        bits: number of bits of a code, which has 2^bits values.
        codebooks: number of codes side by side.
        entropy: weight of loss "entropy".
        diversity: weight of the entropy of the mean within loss "entropy".
        commit: weight of loss "commit".
        temperature: of the soft assignment p; 0.01 is that of the published code.
        group: the largest number of bits whose joint entropy is computed exactly.

    Raises:
        PartArgumentError: an argument is out of range.
    """

    collapse_hint = "a larger entropy= or diversity= (favor an even use of the codes), or fewer bits"

    strides: Tensor

    def __init__(
        self,
        bits: Annotated[int, Ge(1), Le(24)] = 9,
        *,
        codebooks: Depth = 1,
        entropy: NonNegative = 0.1,
        diversity: NonNegative = 1.0,
        commit: NonNegative = 0.25,
        temperature: Positive = 1.0,
        group: Annotated[int, Ge(1), Le(16)] = 9,
    ) -> None:
        width = codebooks * bits
        weights = {"entropy": entropy, "commit": commit}
        super().__init__(in_dim=width, out_dim=width, vocab=(2**bits,) * codebooks, weights=weights)
        self.couples_examples = entropy > 0
        self.bits, self.codebooks = bits, codebooks
        self.diversity, self.temperature, self.group = diversity, temperature, group
        self.register_buffer("strides", 2 ** torch.arange(bits - 1, -1, -1), persistent=False)

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n codebooks*bits)."""
        x, mask = zero_padding(features), features.mask
        ones = x > 0
        signs = 2.0 * ones - 1
        indices = (rearrange(ones.long(), "b n (c d) -> b n c d", d=self.bits) * self.strides).sum(-1)
        losses = {"commit": sum_per_example((x - signs).square(), mask).mean()}
        if self.weights["entropy"]:
            losses["entropy"] = self._entropy_loss(x, features)
        return Code.of(
            features,
            z=straight_through(signs, x).to(features.x.dtype),
            indices=indices,
            bits=fixed_rate_bits(features, x.shape[-1]),
            losses=losses,
            metrics={"perplexity": perplexity(indices, mask, 2**self.bits, over_ranks=self.training)},
        )

    def _entropy_loss(self, x: Float[Tensor, "b n d"], features: Features) -> Float[Tensor, ""]:
        logits = 4 / self.temperature * x  # the log-odds of each bit: 2 x·(+1) less 2 x·(-1)
        entropies = F.softplus(-logits) + logits * torch.sigmoid(-logits)  # of each bit, nats
        tables = [self._joint(part) for part in self._groups(logits)]
        means, tokens = token_statistics(
            torch.cat([entropies, *tables], -1), features.mask, over_ranks=self.training
        )
        each, shares = means[: x.shape[-1]], means[x.shape[-1] :]
        return tokens * (each.sum() - self.diversity * entropy_terms(shares).sum())

    def _groups(self, logits: Float[Tensor, "b n d"]) -> list[Float[Tensor, "b n c g"]]:
        """Cut each codebook's bits into parts of nearly equal size, at most ``group``."""
        parts = -(-self.bits // self.group)
        return list(rearrange(logits, "b n (c d) -> b n c d", d=self.bits).tensor_split(parts, dim=-1))

    @staticmethod
    def _joint(logits: Float[Tensor, "b n c g"]) -> Float[Tensor, "b n k"]:
        """Return the probabilities of all combinations of these bits (b n c*2^g): products of independent bits."""
        yes = torch.sigmoid(logits)
        no = torch.sigmoid(-logits)
        joint = torch.ones_like(yes[..., :1])
        for bit in range(logits.shape[-1]):
            pair = torch.stack([no[..., bit], yes[..., bit]], -1)
            joint = (joint.unsqueeze(-1) * pair.unsqueeze(-2)).flatten(-2)
        return joint.flatten(2)

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """Return the bits of the indices (b n codebooks) as -1 and +1.

        Raises:
            PartArgumentError: indices have another shape, or lie outside of [0, 2^bits).
        """
        check_indices(indices, self.codebooks, 2**self.bits)
        ones = indices.unsqueeze(-1) // self.strides % 2
        return (2.0 * ones - 1).flatten(2)
