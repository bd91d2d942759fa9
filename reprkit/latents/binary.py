"""Binary: bits that are drawn, or cut off at a threshold, with a straight-through gradient."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.latents.functional import (
    check_indices,
    draw_noise,
    fixed_rate_bits,
    perplexity,
    straight_through,
    sum_per_example,
    sum_per_token,
    token_statistics,
    zero_padding,
)
from reprkit.latents.variational import Variational
from reprkit.registry.constraints import CountOrZero, NonNegative, Width
from reprkit.types import Code, Features

# How many logits a unit of the features stands for: bits are rather certain when training starts, so that the
# decoder has something to read.  On the digits 1 ends at a test error of 0.87, 4 at 0.75, 8 at 0.69; after a
# layer norm, which makes the features larger, 1 ends at 0.72, 4 at 0.71, 8 at 0.80.
SHARPNESS = 4.0


class Binary(Variational):
    """Bernoulli bits, as -1 and +1, with the straight-through gradient (Bengio et al. 2013, arXiv 1308.3432).

    ::

        x (b n bits) ──► p = sigmoid(4x) ──► index 1 with probability p, else 0, in training
                                             index 1 where p > 1/2, else 0, in evaluation
        z = 2 * index - 1, the gradient that of its mean, 2p - 1

    The values are -1 and +1, not 0 and 1, so that a code of fair bits has mean zero and every bit says as
    much one way as the other.  The draw keeps codes apart that the decoder must tell apart: it is what
    regularises the code, and evaluation drops it.  Without it (``stochastic=False``) this is an autoencoder
    with a hash for a code.

    ``Code.bits`` is a fixed rate: ``bits`` for every valid token.  Loss and metric "kl" are the KL from the
    prior of fair coins, there whatever the weight.  Metric "perplexity" says how evenly the batch uses the
    two values, mean over bits: 1 is a constant, 2 is even.

    Args:
        bits: width of the code.
        stochastic: draw the bits in training; False cuts off at one half there, too.
        beta: weight of loss "kl"; 1 trains the evidence lower bound of a Bernoulli autoencoder, and wants
            ``warmup``: until the decoder reads the code, making bits fair coins is the easiest gain.
        warmup: optimiser steps over which loss "kl" grows from nothing to its full size.
        entropy: weight of loss "entropy": for each bit the mean entropy of p minus the entropy of the mean
            p, that is minus what the bit tells of the example, over the batch of all ranks: bits become
            certain, and even (the entropy penalty of lookup-free quantisation, Yu et al. 2023, arXiv
            2310.05737, taken bit by bit).

    Raises:
        PartArgumentError: a value out of its range.
    """

    provides = frozenset({"log_prob"})
    collapse_hint = "entropy= (asks for bits that differ between examples), a smaller beta, or warmup="

    def __init__(
        self,
        bits: Width = 64,
        *,
        stochastic: bool = True,
        beta: NonNegative = 0.0,
        warmup: CountOrZero = 0,
        entropy: NonNegative = 0.0,
    ) -> None:
        vocab = (2,) * bits
        super().__init__(
            in_dim=bits, out_dim=bits, vocab=vocab, beta=beta, warmup=warmup, weights={"entropy": entropy}
        )
        self.stochastic = stochastic

    def forward(self, features: Features) -> Code:
        """The code of features (b n bits)."""
        logits = SHARPNESS * zero_padding(features)
        soft = torch.tanh(0.5 * logits)  # 2p - 1
        certain = logits > 0
        drawn = self.training and self.stochastic
        ones = draw_noise(torch.rand, logits) < torch.sigmoid(logits) if drawn else certain
        signs = 2.0 * ones - 1
        doubt = F.softplus(-logits) + logits * torch.sigmoid(-logits)  # the entropy of each bit, nats
        kl = sum_per_example(math.log(2) - doubt, features.mask).mean()
        losses = {"kl": self.warmed(kl)}
        if self.weights["entropy"]:
            losses["entropy"] = self._entropy(doubt, logits, features)
        indices, dtype = ones.long(), features.x.dtype
        return Code.of(
            features,
            z=straight_through(signs, soft).to(dtype),
            mean=straight_through(2.0 * certain - 1, soft).to(dtype) if drawn else None,
            indices=indices,
            log_prob=sum_per_token(F.logsigmoid(signs * logits), features.mask),
            bits=fixed_rate_bits(features, self.in_dim),
            losses=losses,
            metrics={
                "kl": kl.detach(),
                "perplexity": perplexity(indices, features.mask, 2, over_ranks=self.training),
            },
        )

    def _entropy(self, doubt: Tensor, logits: Tensor, features: Features) -> Tensor:
        both = torch.cat([doubt, torch.sigmoid(logits)], -1)
        means, tokens = token_statistics(both, features.mask, over_ranks=self.training)
        each, rate = means.chunk(2)
        return tokens * (each - torch.special.entr(rate) - torch.special.entr(1 - rate)).sum()

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """-1 for index 0 and +1 for index 1.

        Raises:
            PartArgumentError: indices of another shape, or other than 0 and 1.
        """
        check_indices(indices, self.out_dim, 2)
        return 2.0 * indices - 1

    def prior(
        self, shape: tuple[int, int], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n d"]:
        """Fair coins, for ``shape`` (b, n); on the generator's device, then moved to the latent's.

        They are what ``beta`` pulls towards; with ``beta=0`` learn a prior over the indices instead.
        """
        shape_of_z = (*shape, self.out_dim)
        coins = torch.randint(2, shape_of_z, generator=generator, device=self.source(generator))
        return self.embed(coins).to(self.step.device)

    def log_prior(self, code: Code) -> Float[Tensor, "b n"]:
        """The same for every code: -bits * log(2) nats a token."""
        each = code.z.new_full((*code.z.shape[:2], 1), -self.out_dim * math.log(2), dtype=torch.float32)
        return sum_per_token(each, code.mask)
