"""The base of latents with a posterior and a prior: the weight of the KL, its warm-up, and the step count."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reprkit.interfaces import Latent


class Variational(Latent):
    """Base of the latents with a loss "kl", in nats an example.

    Loss "kl" is what training minimizes; metric "kl" is the KL itself, without warm-up or free bits.

    Args:
        in_dim: see Latent.
        out_dim: see Latent.
        vocab: see Latent.
        beta: weight of loss "kl"; 1 trains the evidence lower bound (beta-VAE, Higgins et al. 2017).
        warmup: optimizer steps over which loss "kl" grows linearly from 0 to its full size (Bowman et al. 2016,
            arXiv 1511.06349, section 3.1), so that the decoder learns to use the code first; 0 for none.
        weights: weights of the latent's other losses.

    Raises:
        PartArgumentError: an argument is out of range.
    """

    step: Tensor

    def __init__(
        self,
        *,
        in_dim: int,
        out_dim: int,
        vocab: tuple[int, ...] | None = None,
        beta: float,
        warmup: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(in_dim=in_dim, out_dim=out_dim, vocab=vocab, weights={"kl": beta, **(weights or {})})
        self.warmup = warmup
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def apply_warmup(self, kl: Tensor) -> Tensor:
        """Scale the KL by the warm-up factor of this step."""
        return kl * (self.step / self.warmup).clamp(max=1.0) if self.warmup else kl

    def draw_device(self, generator: torch.Generator | None) -> torch.device:
        """Return the device on which to draw from the prior: the generator's, else the latent's."""
        return self.step.device if generator is None else generator.device

    def update(self) -> None:
        """Count the optimizer step."""
        self.step.add_(1)
