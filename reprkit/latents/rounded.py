"""Rounded: whole numbers with a learned entropy model; uniform noise in training, rounding after."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.latents.entropy_model import FactorizedEntropy
from reprkit.latents.functional import (
    check_indices,
    round_codes,
    sum_per_example,
    sum_per_token,
    zero_padding,
)
from reprkit.latents.variational import Variational
from reprkit.registry.constraints import CountOrZero, NonNegative, Width
from reprkit.types import Code, Features

SHARPNESS = (
    4.0  # codes are features times this factor: at the start several whole numbers are in use, not 0 alone
)


class Rounded(Variational):
    """The code of learned compression (Ballé et al. 2018, arXiv 1802.01436): whole numbers and their learned frequencies.

    ::

        x (b n dim) ──► y = 4x, within ±limit ──► z = y + uniform noise in ±1/2, in training
                                                  z = y rounded, in evaluation;  index = z + limit
        loss "kl": -log p(z), nats an example       p: a learned density of each dimension (their appendix 6.1)

    The noise has density 1, so -log p(z) is the KL of the posterior from the prior p, and ``beta=1`` trains the evidence
    lower bound (their section 2): rate and distortion weigh alike where both are in nats.  In evaluation p(z) is the
    integral of p over the interval that is rounded to z, and ``Code.bits`` is the real rate, -log2 p(z), without the fixed
    rate of other discrete latents.

    Dimensions of few values are cheap, not unhealthy, so the warning of a collapse is off: a dimension is worth its bits.

    Args:
        dim: width of the code.
        limit: the largest whole number; each dimension takes ``2 * limit + 1`` values.
        beta: weight of loss "kl": above 1 for fewer bits, below for a smaller error.
        warmup: optimizer steps over which loss "kl" grows linearly from 0 to its full size.

    Raises:
        PartArgumentError: an argument is out of range.
    """

    collapse_floor = 0.0

    def __init__(
        self,
        dim: Width = 64,
        *,
        limit: Annotated[int, Ge(1), Le(2**15)] = 31,
        beta: NonNegative = 1.0,
        warmup: CountOrZero = 0,
    ) -> None:
        values = 2 * limit + 1
        super().__init__(in_dim=dim, out_dim=dim, vocab=(values,) * dim, beta=beta, warmup=warmup)
        self.limit, self.values = limit, values
        self.entropy = FactorizedEntropy(dim)

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n dim)."""
        y = SHARPNESS * zero_padding(features)
        z, whole = round_codes(y, self.limit, noise=self.training)
        nats = sum_per_example(-self.entropy.log_mass(z), features.mask)
        dtype = features.x.dtype
        return Code.of(
            features,
            z=z.to(dtype),
            mean=whole.to(dtype) if self.training else None,
            indices=whole.detach().long() + self.limit,
            bits=nats.detach() / math.log(2),
            losses={"kl": self.apply_warmup(nats.mean())},
            metrics={"kl": nats.mean().detach()},
        )

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """Return the whole numbers of the indices (b n dim).

        Raises:
            PartArgumentError: indices have another shape, or lie outside of [0, 2 * limit].
        """
        check_indices(indices, self.out_dim, self.values)
        return (indices - self.limit).to(torch.float32)

    @torch.no_grad()
    def prior(
        self, shape: tuple[int, int], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n d"]:
        """Draw whole numbers by the learned frequencies for ``shape`` (b, n); the result is on the latent's device."""
        numbers = torch.arange(self.values, device=self.step.device) - self.limit
        mass = self.entropy.log_mass(numbers.view(-1, 1, 1).expand(-1, 1, self.out_dim)).exp()
        shares = mass.squeeze(1).T.to(self.draw_device(generator))  # (d v)
        draws = torch.multinomial(shares, shape[0] * shape[1], replacement=True, generator=generator)
        return self.embed(draws.T.reshape(*shape, self.out_dim)).to(self.step.device)

    def log_prior(self, code: Code) -> Float[Tensor, "b n"]:
        """Return log p of ``code.z``, nats a token: of the whole numbers in evaluation, of the noisy ones in training."""
        return sum_per_token(self.entropy.log_mass(code.z), code.mask)
