"""The loss of a Wasserstein critic with gradient penalty (WGAN-GP)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.utils import collectives

Mask = Bool[Tensor, "b n"] | None
Critic = Callable[[Tensor, Mask], Float[Tensor, " b"]]


def critic_loss(
    critic: Critic,
    real: Float[Tensor, "b ..."],
    fake: Float[Tensor, "b ..."],
    *,
    real_mask: Mask = None,
    fake_mask: Mask = None,
    penalty: float = 10.0,
    training: bool = True,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Compute the WGAN-GP critic loss of each pair of a fake and a real example (Gulrajani et al. 2017, arXiv 1704.00028, eq. 3).

    ``critic(fake) - critic(real) + penalty * (|slope| - 1)^2``; ``slope`` is the gradient of the score at a point between
    the two, drawn uniformly (over the joined batch of all ranks), or halfway outside training.  The critic must be twice
    differentiable and score each example independently.

    Args:
        critic: (examples (b ...), mask (b n) or None) -> scores (b), higher for real.
        real: real examples (b ...).
        fake: generated examples, of the same shape; only the critic gets a gradient.
        real_mask: which of the n tokens of a real example are valid (b n); None: all.
        fake_mask: the same for fake examples.  At the interpolated point a token is valid where it is in either.
        penalty: weight of the gradient penalty, from 0.
        training: whether to draw the interpolated points.

    Returns:
        The loss (b), to be averaged over examples, and its first part (b), ``critic(fake) - critic(real)``.
    """
    real, fake = real.detach(), fake.detach()
    difference = critic(fake, fake_mask) - critic(real, real_mask)
    shape = (len(real), *[1] * (real.ndim - 1))
    share = collectives.global_draw(torch.rand, shape).to(real) if training else 0.5
    mask = None if real_mask is None or fake_mask is None else real_mask | fake_mask
    with torch.enable_grad():  # also under no_grad in evaluation
        point = (share * real + (1 - share) * fake).requires_grad_()
        slope = torch.autograd.grad(critic(point, mask).sum(), point, create_graph=True)[0]
    excess = (slope.flatten(1).norm(dim=1) - 1).square()  # norm: the gradient of a slope of 0 is 0
    return difference + penalty * excess, difference
