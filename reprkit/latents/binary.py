"""Binary: Bernoulli or thresholded bits with a straight-through gradient."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.latents.functional import (
    check_indices,
    draw_noise,
    entropy_terms,
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

# Logits are features times this factor: bits are nearly deterministic when training starts, so that the decoder
# gets a signal.  On the digits a factor of 1 ends at a test error of 0.87, 4 at 0.75, 8 at 0.69; after a layer
# norm, which makes the features larger, 1 ends at 0.72, 4 at 0.71, 8 at 0.80.
SHARPNESS = 4.0


class Binary(Variational):
    """Bernoulli bits, as -1 and +1, with the straight-through gradient (Bengio et al. 2013, arXiv 1308.3432).

    ::

        x (b n bits) ──► p = sigmoid(4x) ──► index 1 with probability p, else 0, in training
                                             index 1 where p > 1/2, else 0, in evaluation
        z = 2 * index - 1, with the gradient of its mean, 2p - 1

    The values are -1 and +1, not 0 and 1, so that a code of fair bits has mean zero and both values are
    symmetric.  Sampling regularizes the code: codes that the decoder must distinguish are pushed apart.
    Evaluation does not sample.  With ``stochastic=False`` this is an autoencoder whose code is a hash.

    ``Code.bits`` is a fixed rate: ``bits`` for every valid token.  Loss and metric "kl" are the KL from the
    uniform Bernoulli prior, reported whatever the weight.  Metric "perplexity" says how evenly the batch uses
    the two values, mean over bits: 1 for a constant bit, 2 for a balanced one.

    Args:
        bits: width of the code.
        stochastic: sample the bits in training; False thresholds at one half in training too.
        beta: weight of loss "kl"; 1 trains the evidence lower bound of a Bernoulli autoencoder and should be
            used with ``warmup``: until the decoder uses the code, the KL is minimized by making bits uniform.
        warmup: optimizer steps over which loss "kl" grows linearly from 0 to its full size.
        entropy: weight of loss "entropy": for each bit the mean entropy of p minus the entropy of the mean
            p, that is minus the mutual information of bit and example, over the batch of all ranks: bits become
            deterministic and balanced (the entropy penalty of lookup-free quantization, Yu et al. 2023, arXiv
            2310.05737, applied to each bit).

    Raises:
        PartArgumentError: an argument is out of range.
    """

    provides = frozenset({"log_prob"})
    collapse_hint = "entropy= (favors bits that differ between examples), a smaller beta, or warmup="

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
        self.couples_examples = entropy > 0

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n bits)."""
        logits = SHARPNESS * zero_padding(features)
        soft = torch.tanh(0.5 * logits)  # 2p - 1
        most_likely = logits > 0
        sampled = self.training and self.stochastic
        ones = draw_noise(torch.rand, logits) < torch.sigmoid(logits) if sampled else most_likely
        signs = 2.0 * ones - 1
        entropy = F.softplus(-logits) + logits * torch.sigmoid(-logits)  # of each bit, nats
        kl = sum_per_example(math.log(2) - entropy, features.mask).mean()
        losses = {"kl": self.apply_warmup(kl)}
        if self.weights["entropy"]:
            losses["entropy"] = self._entropy_loss(entropy, logits, features)
        indices, dtype = ones.long(), features.x.dtype
        return Code.of(
            features,
            z=straight_through(signs, soft).to(dtype),
            mean=straight_through(2.0 * most_likely - 1, soft).to(dtype) if sampled else None,
            indices=indices,
            log_prob=sum_per_token(F.logsigmoid(signs * logits), features.mask),
            bits=fixed_rate_bits(features, self.in_dim),
            losses=losses,
            metrics={
                "kl": kl.detach(),
                "perplexity": perplexity(indices, features.mask, 2, over_ranks=self.training),
            },
        )

    def _entropy_loss(self, entropy: Tensor, logits: Tensor, features: Features) -> Tensor:
        both = torch.cat([entropy, torch.sigmoid(logits)], -1)
        means, tokens = token_statistics(both, features.mask, over_ranks=self.training)
        mean_entropy, rate = means.chunk(2)
        return tokens * (mean_entropy - entropy_terms(rate) - entropy_terms(1 - rate)).sum()

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """Map index 0 to -1 and index 1 to +1.

        Raises:
            PartArgumentError: indices have another shape, or values other than 0 and 1.
        """
        check_indices(indices, self.out_dim, 2)
        return 2.0 * indices - 1

    def prior(
        self, shape: tuple[int, int], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n d"]:
        """Draw uniform bits for ``shape`` (b, n), on the generator's device; the result is on the latent's.

        The KL loss, of weight ``beta``, pulls codes towards this prior; with ``beta=0`` learn a prior over the
        indices instead.
        """
        shape_of_z = (*shape, self.out_dim)
        coins = torch.randint(2, shape_of_z, generator=generator, device=self.draw_device(generator))
        return self.embed(coins).to(self.step.device)

    def log_prior(self, code: Code) -> Float[Tensor, "b n"]:
        """Return -bits * log(2) nats a token, the same for every code."""
        nats = code.z.new_full((*code.z.shape[:2], 1), -self.out_dim * math.log(2), dtype=torch.float32)
        return sum_per_token(nats, code.mask)
