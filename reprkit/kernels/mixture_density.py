"""Log-densities of draws under a mixture of diagonal Gaussians: of the whole vectors, and of each dimension by itself.

Why it is fast: autograd over ``torch.distributions.Normal`` keeps several tensors of draws x components x dimensions.  Here one
dimension of a block of draws is computed at a time, in a CPU's cache; the backward pass computes it again, so memory is O(b m).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.distributions import Normal

from reprkit.utils.precision import at_least_float32, without_autocast

LOWEST = -80.0  # exp of less is 0 beside 1, and where it underflows it takes 40 times as long on a CPU
BLOCK = {"cpu": 2**17, "cuda": 2**24}  # elements of a block of draws x components


def mixture_log_densities(
    z: Float[Tensor, "b d"],
    mean: Float[Tensor, "m d"],
    deviation: Float[Tensor, "m d"],
    log_weight: Float[Tensor, "b m"] | None = None,
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b d"]]:
    """Return log q(z) and log q(z_d), nats, where q is the mixture of Gaussians with diagonal covariance.

    Computed in float32 (float64 for float64 input) also under autocast.  The weights get no gradient.  A second derivative takes
    O(b m d) memory.

    Args:
        z: draws.
        mean: of the components.
        deviation: of the components, positive.
        log_weight: of the components, for each draw; None: equal ones.
    """
    with without_autocast(z.device):
        z, mean, deviation = (at_least_float32(each) for each in (z, mean, deviation))
        weight = None if log_weight is None else log_weight.to(z)
        found: tuple[Tensor, Tensor] = _MixtureLogDensities.apply(z, mean, deviation, weight)
    return found


class _MixtureLogDensities(Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, mean: Tensor, deviation: Tensor, log_weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        scale, constant = _constants(mean, deviation)
        together, apart = z.new_empty(len(z)), torch.empty_like(z)
        joints = []
        for rows in _blocks(z, mean):
            weight = _weights(log_weight, rows, mean)
            joint = (weight + constant.sum(1)).repeat(len(z[rows]) // len(weight), 1)
            for d in range(z.shape[1]):
                distance = _distance(z[rows, d], mean[:, d], scale[:, d])
                joint.addcmul_(distance, distance, value=-1)
                one = torch.addcmul(weight + constant[:, d], distance, distance, value=-1)
                apart[rows, d] = _log_sum_exp(one)
            together[rows] = _log_sum_exp(joint.clone())
            joints.append(joint)
        ctx.save_for_backward(z, mean, deviation, log_weight, together, apart, *joints)
        return together, apart

    @staticmethod
    def backward(ctx: Any, to_together: Tensor, to_apart: Tensor) -> tuple[Tensor | None, ...]:
        z, mean, deviation, log_weight, together, apart, *joints = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: gradients that can be differentiated again
            found = _plain(z, mean, deviation, log_weight)
            wanted = [
                each
                for each, needed in zip((z, mean, deviation), ctx.needs_input_grad, strict=False)
                if needed
            ]
            gradients = iter(
                torch.autograd.grad(
                    found, wanted, (to_together, to_apart), create_graph=True, materialize_grads=True
                )
            )
            to_z, to_mean, to_deviation = (
                next(gradients) if each else None for each in ctx.needs_input_grad[:3]
            )
            return to_z, to_mean, to_deviation, None
        scale, constant = _constants(mean, deviation)
        to_z, to_mean, to_scale = torch.empty_like(z), torch.zeros_like(mean), torch.zeros_like(mean)
        total = torch.zeros_like(mean)
        ones = z.new_ones(len(z))
        for rows, joint in zip(_blocks(z, mean), joints, strict=True):
            weight = _weights(log_weight, rows, mean)
            # The gradient of each component's log-density: its share of the mixture, times the mixture's gradient.
            whole = _exp(joint - together[rows, None]).mul_(to_together[rows, None])
            for d in range(z.shape[1]):
                distance = _distance(z[rows, d], mean[:, d], scale[:, d])
                share = torch.addcmul(weight + constant[:, d], distance, distance, value=-1)
                share = _exp(share.sub_(apart[rows, d, None])).mul_(to_apart[rows, d, None]).add_(whole)
                one = ones[: len(share)]
                total[:, d].addmv_(share.T, one)
                share.mul_(distance)
                to_z[rows, d] = share @ scale[:, d]
                to_mean[:, d].addmv_(share.T, one)
                to_scale[:, d].addmv_(share.mul_(distance).T, one)
        # log N = -distance² - log(deviation) + ..., where distance = (z - mean) scale, scale = 1 / (√2 deviation).
        to_deviation = (2 * to_scale - total) / deviation
        return to_z.mul_(-2), to_mean.mul_(2 * scale), to_deviation, None


def _plain(z: Tensor, mean: Tensor, deviation: Tensor, log_weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the same by autograd, with all draws x components x dimensions in memory."""
    density = Normal(mean, deviation, validate_args=False).log_prob(z[:, None])
    weight = _weights(log_weight, slice(None), mean)
    return torch.logsumexp(density.sum(-1) + weight, 1), torch.logsumexp(density + weight.unsqueeze(-1), 1)


def _constants(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 / (√2 deviation), and the log-density of each component (m d) at its mean."""
    return (deviation * math.sqrt(2)).reciprocal(), -deviation.log() - 0.5 * math.log(2 * math.pi)


def _weights(log_weight: Tensor | None, rows: slice, mean: Tensor) -> Tensor:
    """Return the log-weights of some draws (r m); of equal weights one number in their place, (1 1)."""
    return mean.new_full((1, 1), -math.log(len(mean))) if log_weight is None else log_weight[rows]


def _blocks(z: Tensor, mean: Tensor) -> Iterator[slice]:
    size = max(1, BLOCK.get(z.device.type, BLOCK["cuda"]) // len(mean))
    for start in range(0, len(z), size):
        yield slice(start, min(start + size, len(z)))


def _exp(x: Tensor) -> Tensor:
    """Return exp(x) in place of x."""
    return x.clamp_(min=LOWEST).exp_()


def _log_sum_exp(x: Float[Tensor, "r m"]) -> Float[Tensor, " r"]:
    """Return the logarithm of the sums of exp(x) over rows; x is overwritten."""
    largest = x.amax(1)
    return _exp(x.sub_(largest[:, None])).sum(1).log_().add_(largest)


def _distance(z: Tensor, mean: Tensor, scale: Tensor) -> Float[Tensor, "r m"]:
    """Return (z - mean) scale of draws (r,) and components (m,), in one sweep of memory."""
    return torch.addcmul(-(mean * scale), z[:, None], scale)
