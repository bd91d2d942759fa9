"""Reparameterized Gaussian sampling with KL, log-density and deviation in one function, with a hand-written gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# The log-variance of a raw value of 0: training starts nearly without noise (sd 0.05), so that the decoder
# learns to use the code before the KL term removes its information.  On the digits, 64 dimensions that start at
# sd 1 never leave the prior (test error 4.8); those from 0.14 end at 0.93, those from 0.05 at 0.86.
START = -6.0
LOWEST, HIGHEST = -12.0, 6.0  # log-variance: sd from 0.0025 to 20, wider than any useful posterior
_LOG_TAU = math.log(2 * math.pi)

Parts = tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"], Float[Tensor, "b n d"], Float[Tensor, "b n d"]]


def soft_clamp(raw: Tensor) -> Tensor:
    """Clamp ``raw`` smoothly to between LOWEST and HIGHEST (Chua et al. 2018, arXiv 1805.12114, A.1)."""
    below = HIGHEST - F.softplus(HIGHEST - raw)
    return LOWEST + F.softplus(below - LOWEST)


def reparameterize(mean: Tensor, raw: Tensor, noise: Tensor) -> Parts:
    """Return z = mean + sd * noise, the KL from N(0, I) and the log-density of z in nats, and sd, all (b n d).

    Kingma and Welling 2014 (arXiv 1312.6114), section 2.4 and appendix B.  ``raw`` is the log-variance before
    START is added and the bounds are applied.
    """
    if torch.is_grad_enabled() and raw.requires_grad and not torch.compiler.is_compiling():
        return Reparameterize.apply(mean, raw, noise)
    return reparameterize_reference(mean, raw, noise)


def reparameterize_reference(mean: Tensor, raw: Tensor, noise: Tensor) -> Parts:
    """Compute the same with plain operations, which can be differentiated any number of times."""
    log_variance = soft_clamp(raw + START)
    deviation = (0.5 * log_variance).exp()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return mean + noise * deviation, kl, -0.5 * (noise.square() + log_variance + _LOG_TAU), deviation


class Reparameterize(torch.autograd.Function):
    """``reparameterize_reference`` with a closed-form first derivative: a third of the operations, faster for small tensors."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, raw: Tensor, noise: Tensor) -> Parts:
        """Return z, the KL, the log-density and the deviation."""
        upper = (HIGHEST - START) - raw
        lower = (HIGHEST - LOWEST) - F.softplus(upper)
        log_variance = LOWEST + F.softplus(lower)
        slope = torch.sigmoid(upper).mul_(torch.sigmoid(lower))  # the derivative of the soft clamp
        deviation = (0.5 * log_variance).exp()
        excess = deviation.square() - 1
        ctx.save_for_backward(mean, raw, noise, slope, deviation, excess)
        ctx.set_materialize_grads(False)
        z = torch.addcmul(mean, noise, deviation)
        kl = torch.addcmul(excess - log_variance, mean, mean).mul_(0.5)
        log_prob = torch.addcmul(log_variance + _LOG_TAU, noise, noise).mul_(-0.5)
        return z, kl, log_prob, deviation

    @staticmethod
    def backward(
        ctx: Any,
        to_z: Tensor | None,
        to_kl: Tensor | None,
        to_log_prob: Tensor | None,
        to_deviation: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to mean, raw log-variance and noise."""
        mean, raw, noise, slope, deviation, excess = ctx.saved_tensors
        # A second derivative or that of the noise is needed.
        if torch.is_grad_enabled() or ctx.needs_input_grad[2]:
            return _reference_gradient(
                (mean, raw, noise), (to_z, to_kl, to_log_prob, to_deviation), ctx.needs_input_grad
            )
        by_mean: Tensor | None = None
        by_log_variance: Tensor | None = None  # twice the gradient
        if to_z is not None:
            by_mean, by_log_variance = to_z, to_z * noise * deviation
        if to_kl is not None:
            by_mean = to_kl * mean if by_mean is None else torch.addcmul(by_mean, to_kl, mean)
            rest = to_kl * excess
            by_log_variance = rest if by_log_variance is None else by_log_variance.add_(rest)
        if to_log_prob is not None:
            by_log_variance = -to_log_prob if by_log_variance is None else by_log_variance - to_log_prob
        if to_deviation is not None:
            rest = to_deviation * deviation
            by_log_variance = rest if by_log_variance is None else by_log_variance + rest
        by_raw = torch.zeros_like(raw) if by_log_variance is None else by_log_variance * slope * 0.5
        return by_mean, by_raw, None


def _reference_gradient(
    inputs: tuple[Tensor, ...], grads: tuple[Tensor | None, ...], needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    with torch.enable_grad():
        outputs = reparameterize_reference(*inputs)
        pairs = [(out, grad) for out, grad in zip(outputs, grads, strict=True) if grad is not None]
        differentiated = [value for value, need in zip(inputs, needed, strict=True) if need]
        gradients = iter(
            torch.autograd.grad(
                [out for out, _ in pairs],
                differentiated,
                [grad for _, grad in pairs],
                create_graph=True,
                allow_unused=True,
            )
        )
    return tuple(next(gradients) if need else None for need in needed)
