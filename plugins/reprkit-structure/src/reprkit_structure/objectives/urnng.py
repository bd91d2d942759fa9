"""Unsupervised recurrent neural network grammars: policy gradient of the evidence lower bound, annealed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.objectives.policy import Policy
from reprkit.registry.constraints import Count, CountOrZero

if TYPE_CHECKING:
    from reprkit.models.scoring import Scored


class URNNG(Policy):
    """The evidence lower bound of a decoder that writes words and tree, by policy gradient (Kim et al. 2019, arXiv 1904.03746).

    Objective ``policy`` of the core with the mean reward of the other samples as baseline.  A sampled tree z of a sentence x has
    the reward log p(x | z) + w log p(z), the second of which is minus the decoder's ``code_nll``; w grows from 0 to 1 over
    ``warmup`` optimizer steps, as the authors' code does over two epochs.  The entropy, which completes the bound, is the loss
    "kl" of latent ``tree(gradient='none', prior='decoder', warmup=...)``, exact and with the same weight.

    Args:
        samples: trees drawn for each sentence, two or more (the paper's 8).
        warmup: optimizer steps over which the weight of log p(z) grows to 1; 0 for none.
        factor: name of the factor whose code is sampled; None for the only factor.

    Raises:
        PartArgumentError: one sample.
        BuildError: no such factor, or a latent without ``log_prob``.
    """

    step: Tensor

    def __init__(self, *, samples: Count = 8, warmup: CountOrZero = 0, factor: str | None = None) -> None:
        super().__init__(samples=samples, baseline="others", factor=factor)
        self.warmup = warmup
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def nats(self, scored: Scored) -> Float[Tensor, " s"]:
        """Return the nats of the words, and those of the tree times their weight; outside of training with weight 1."""
        if scored.decoded.code_nll is None or not self.warmup or not self.training:
            return scored.per_example
        weight = (self.step / self.warmup).clamp(max=1.0)
        return scored.nats.sum(1) + weight * scored.decoded.code_nll

    def update(self) -> None:
        """Count the optimizer step."""
        self.step.add_(1)
