"""Continuous: real vectors, optionally with an activation, dropout or a sparsity penalty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from reprkit.interfaces import Latent, require
from reprkit.latents.functional import draw_noise, sum_per_example, token_statistics, zero_padding
from reprkit.registry.constraints import BelowOne, CountOrZero, NonNegative, Width
from reprkit.types import Code, Features

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


class Continuous(Latent):
    """The plain autoencoder's code (Hinton and Salakhutdinov 2006), with optional dropout and sparsity.

    ::

        x (b n dim) ──► activation ──► a ──► dropout, in training ──► z (b n dim)
                                       ├───► loss "l1":       sum over d of |a|
                                       └───► loss "sparsity": sum over d of KL(target || mean activity of d)

    "sparsity" is the penalty of the sparse autoencoder (Ng 2011, CS294A lecture notes; Hinton 2010, "A
    practical guide to training restricted Boltzmann machines", section 11): the KL between Bernoulli
    distributions with rate ``target`` and with the mean activity of a unit, over the valid tokens of the batch
    of all ranks.  Like every loss it is summed over tokens: for a vector, which is one token, it is Ng's sum;
    for a sequence it is that sum times the mean number of tokens.

    Args:
        dim: width of the code.
        activation: "identity", "relu", "sigmoid" or "tanh".  None means "sigmoid" where ``sparsity`` is
            set, else "identity".  "relu" with ``l1`` gives codes with exact zeros.
        dropout: fraction of the code's elements set to zero in training, in [0, 1); the others are scaled up
            to keep the mean (Srivastava et al. 2014).  ``Code.mean`` is then the code before dropout.
        l1: weight of loss "l1"; 0 omits the loss.
        sparsity: weight of loss "sparsity"; 0 omits the loss.
        target: target of the mean activity for "sparsity", in (0, 1).
        warmup: optimizer steps over which both losses grow linearly from 0 to their full size; 0 for none.

    Raises:
        PartArgumentError: an argument is out of range, ``sparsity`` is set with an activation other than "sigmoid", or
            ``warmup`` without either loss.
    """

    collapse_hint = (
        "a smaller l1 or sparsity weight, fewer dimensions, a lower learning rate, or another activation"
    )

    step: Tensor | None

    def __init__(
        self,
        dim: Width = 64,
        *,
        activation: Literal["identity", "relu", "sigmoid", "tanh"] | None = None,
        dropout: BelowOne = 0.0,
        l1: NonNegative = 0.0,
        sparsity: NonNegative = 0.0,
        target: Annotated[float, Gt(0), Lt(1)] = 0.05,
        warmup: CountOrZero = 0,
    ) -> None:
        chosen = activation or ("sigmoid" if sparsity else "identity")
        require(
            not sparsity or chosen == "sigmoid",
            f"sparsity compares activities in (0, 1), so it needs activation='sigmoid', not {activation!r}",
        )
        super().__init__(in_dim=dim, out_dim=dim, weights={"l1": l1, "sparsity": sparsity}, precision="any")
        self.activation, self.dropout, self.target = chosen, dropout, target
        self.couples_examples = sparsity > 0
        require(not warmup or bool(l1 or sparsity), f"warmup={warmup} is for l1 or sparsity, and both are 0")
        self.warmup = warmup
        # Only where it is needed, so that checkpoints without a warm-up hold no step.
        self.register_buffer("step", torch.zeros((), dtype=torch.int64) if warmup else None)

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n dim), in their own precision; losses are computed in float32."""
        active = ACTIVATIONS[self.activation](features.x)
        losses = self._losses(features)
        if not (self.training and self.dropout):
            return Code.of(features, z=active, losses=losses)
        keep = draw_noise(torch.rand, active) >= self.dropout
        return Code.of(features, z=active * keep / (1 - self.dropout), mean=active, losses=losses)

    def _losses(self, features: Features) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        if not any(self.weights.values()):
            return losses
        active = ACTIVATIONS[self.activation](zero_padding(features))
        if self.weights["l1"]:
            losses["l1"] = sum_per_example(active.abs(), features.mask).mean()
        if self.weights["sparsity"]:
            activity, tokens = token_statistics(active, features.mask, over_ranks=self.training)
            losses["sparsity"] = tokens * bernoulli_kl(self.target, activity).sum()
        if self.step is not None:
            share = (self.step / self.warmup).clamp(max=1.0)
            losses = {name: share * loss for name, loss in losses.items()}
        return losses

    def update(self) -> None:
        """Count the optimizer step, for the warm-up."""
        if self.step is not None:
            self.step.add_(1)


def bernoulli_kl(target: float, activity: Tensor) -> Tensor:
    """Compute KL(Bernoulli(target) || Bernoulli(activity)) in nats; finite at activities of 0 and 1 too."""
    activity = activity.clamp(1e-6, 1 - 1e-6)
    rate = torch.full_like(activity, target)
    return torch.xlogy(rate, rate / activity) + torch.xlogy(1 - rate, (1 - rate) / (1 - activity))
