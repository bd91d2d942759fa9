"""What latents with a posterior and a prior share: the weight of the KL, its warm-up, and the count of steps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reprkit.interfaces import Latent


class Variational(Latent):
    """Base of the latents with a loss "kl", in nats an example.

    Loss "kl" is what training minimises; metric "kl" is the KL itself, whatever was done to the loss.

    Args:
        in_dim: see Latent.
        out_dim: see Latent.
        vocab: see Latent.
        beta: weight of loss "kl"; 1 trains the evidence lower bound (beta-VAE, Higgins et al. 2017).
        warmup: optimiser steps over which loss "kl" grows from nothing to its full size (Bowman et al. 2016,
            arXiv 1511.06349, section 3.1), so that the decoder learns to read the code first; 0 for none.
        weights: of the latent's other losses.

    Raises:
        PartArgumentError: a value out of its range.
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

    def warmed(self, kl: Tensor) -> Tensor:
        """The share of the KL that counts at this step."""
        return kl * (self.step / self.warmup).clamp(max=1.0) if self.warmup else kl

    def source(self, generator: torch.Generator | None) -> torch.device:
        """Where draws of the prior are made: at the generator, else where the latent is."""
        return self.step.device if generator is None else generator.device

    def update(self) -> None:
        """Count the optimiser step."""
        self.step.add_(1)
