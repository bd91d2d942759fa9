"""Gaussian: the variational autoencoder's code, a draw from a diagonal Gaussian."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.interfaces import require
from reprkit.kernels.reparameterization import START, reparameterize, soft_clamp
from reprkit.latents.functional import (
    draw_noise,
    sum_per_example,
    sum_per_token,
    token_statistics,
    zero_padding,
)
from reprkit.latents.variational import Variational
from reprkit.registry.constraints import Count, CountOrZero, NonNegative, Width
from reprkit.types import Code, Features
from reprkit.utils import collectives
from reprkit.utils.precision import at_least_float32


class Gaussian(Variational):
    """A diagonal Gaussian posterior with the prior N(0, I), or a Laplace prior (Kingma and Welling 2014, arXiv 1312.6114).

    ::

        x (b n 2*dim) ──► mean, log-variance ──► z = mean + sd * noise  (b n dim), in training
                                                 z = mean, in evaluation

    Loss "kl" is the analytic KL of q(z|x) from the prior (their appendix B), so ``beta=1`` trains the evidence
    lower bound.  ``free_bits``, ``warmup`` and ``capacity`` change the loss only; metric "kl" and ``Code.bits`` (the KL in
    bits, the rate of the code under bits-back coding) always report the KL itself.

    Args:
        dim: width of the code; the features have twice as many dimensions.
        beta: weight of loss "kl" (beta-VAE, Higgins et al. 2017); below 1 for sharper outputs.
        free_bits: nats per dimension of a token below which the KL is not penalized, applied to its mean over
            the batch of all ranks (Kingma et al. 2016, arXiv 1606.04934, appendix C.8): keeps dimensions active.
        warmup: optimizer steps over which loss "kl" grows linearly from 0 to its full size (Bowman et al. 2016,
            arXiv 1511.06349, section 3.1): prevents decoders that learn to ignore the code.
        prior: "normal", N(0, 1) in each dimension; or "laplace", the density exp(-|z|) / 2, which favors codes of few large values
            (sparse coding: Olshausen and Field 1997, Vision Research 37; with a network as encoder: Barello et al. 2018, bioRxiv
            399246).
        capacity: target of the KL in nats an example: loss "kl" is then the absolute difference between the KL's mean over
            the batch of all ranks and the target, weighted by ``beta`` (Burgess et al. 2018, arXiv 1804.03599, eq. 8); 0 for the
            KL itself.
        capacity_steps: optimizer steps over which the target rises linearly from 0 to ``capacity``.

    Raises:
        PartArgumentError: an argument is out of range.
    """

    provides = frozenset({"log_prob", "deviation"})
    active_variance = 0.01  # Burda et al. 2016, arXiv 1509.00519, section 5.2
    collapse_hint = "a smaller beta, free_bits=, warmup=, fewer dimensions, or a weaker decoder"

    def __init__(
        self,
        dim: Width = 64,
        *,
        beta: NonNegative = 1.0,
        free_bits: NonNegative = 0.0,
        warmup: CountOrZero = 0,
        prior: Literal["normal", "laplace"] = "normal",
        capacity: NonNegative = 0.0,
        capacity_steps: Count = 10_000,
    ) -> None:
        super().__init__(in_dim=2 * dim, out_dim=dim, beta=beta, warmup=warmup)
        require(
            not (capacity and (free_bits or warmup)),
            f"capacity={capacity:g} sets the KL itself, so free_bits and warmup must be 0",
        )
        self.has_laplace_prior = prior == "laplace"
        self.free_bits, self.capacity, self.capacity_steps = free_bits, capacity, capacity_steps
        self.couples_examples = free_bits > 0 or capacity > 0

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n 2*dim): the means, then as many raw log-variances."""
        mean, raw = zero_padding(features).chunk(2, dim=-1)
        noise = draw_noise(torch.randn, mean) if self.training else torch.zeros_like(mean)
        z, kl, log_prob, deviation = reparameterize(mean, raw, noise)
        if self.has_laplace_prior:
            kl = kl_from_laplace(mean, soft_clamp(raw + START))
        nats = sum_per_example(kl, features.mask)
        dtype = features.x.dtype
        return Code.of(
            features,
            z=z.to(dtype),
            mean=mean.to(dtype) if self.training else None,
            deviation=deviation.to(dtype),
            log_prob=sum_per_token(log_prob, features.mask),
            bits=nats / math.log(2),
            losses={"kl": self._loss(kl, nats, features)},
            metrics={"kl": nats.mean().detach()},
        )

    def _loss(
        self, kl: Float[Tensor, "b n d"], nats: Float[Tensor, " b"], features: Features
    ) -> Float[Tensor, ""]:
        if self.capacity:
            # Over all ranks: the distance of the mean is not the mean of distances.
            rows = collectives.gather_with_gradient(nats) if self.training else nats
            return (rows.mean() - self.capacity * (self.step / self.capacity_steps).clamp(max=1.0)).abs()
        return self.apply_warmup(self._apply_free_bits(kl, features) if self.free_bits else nats.mean())

    def _apply_free_bits(self, kl: Float[Tensor, "b n d"], features: Features) -> Float[Tensor, ""]:
        mean_kl, tokens = token_statistics(kl, features.mask, over_ranks=self.training)
        return tokens * mean_kl.clamp(min=self.free_bits).sum()

    def prior(
        self, shape: tuple[int, int], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n d"]:
        """Draw from the prior for ``shape`` (b, n), on the generator's device; the result is on the latent's."""
        draw = torch.empty((*shape, self.out_dim), device=self.draw_device(generator))
        if not self.has_laplace_prior:
            return draw.normal_(generator=generator).to(self.step.device)
        # The difference of two exponential values has a Laplace distribution.
        first = draw.exponential_(generator=generator).clone()
        return (first - draw.exponential_(generator=generator)).to(self.step.device)

    def log_prior(self, code: Code) -> Float[Tensor, "b n"]:
        """Return the log-density of ``code.z`` under the prior, nats a token."""
        z = at_least_float32(code.z)
        if self.has_laplace_prior:
            return sum_per_token(-z.abs() - math.log(2), code.mask)
        return sum_per_token(-0.5 * (z.square() + math.log(2 * math.pi)), code.mask)


def kl_from_laplace(
    mean: Float[Tensor, "b n d"], log_variance: Float[Tensor, "b n d"]
) -> Float[Tensor, "b n d"]:
    """Compute KL(N(mean, exp(log_variance)) || Laplace(0, 1)) = log 2 + E|z| - entropy, in nats; |z| is folded normal."""
    deviation = (0.5 * log_variance).exp()
    ratio = mean / deviation
    expected = mean * torch.erf(ratio / math.sqrt(2))
    expected = expected + deviation * math.sqrt(2 / math.pi) * (-0.5 * ratio.square()).exp()
    return math.log(2) + expected - 0.5 * (math.log(2 * math.pi) + 1 + log_variance)
