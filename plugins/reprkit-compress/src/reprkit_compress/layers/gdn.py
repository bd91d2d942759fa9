"""Generalized divisive normalization, the nonlinearity of learned image compression."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_OFFSET = 2.0**-18  # gradients of a square root stay finite at 0
_PEDESTAL = _OFFSET**2
_LEAST = 1e-6  # of beta: the norm is not 0


class GDN(nn.Module):
    """Divide each channel by a norm over all channels of its cell (Ballé et al. 2016, arXiv 1511.06281; 2017, arXiv 1611.01704, eq. 3).

    ::

        y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2)        inverse: times the root

    beta and gamma are not negative: a weight holds the square root of its value and a pedestal, and is bounded below by a function
    whose gradient still moves a weight at the bound back into its range (2017, section 3).  Names and values of the weights are
    those of CompressAI's GDN.

    Args:
        width: channels.
        inverse: multiply instead: the approximate inverse, for synthesis.
        gamma: gamma_ii at the start; gamma_ij is 0.
    """

    def __init__(self, width: int, *, inverse: bool = False, gamma: float = 0.1) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter((torch.ones(width) + _PEDESTAL).sqrt())
        self.gamma = nn.Parameter((gamma * torch.eye(width) + _PEDESTAL).sqrt())

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """Normalize the channels of each cell."""
        beta = bounded_below(self.beta, (_LEAST + _PEDESTAL) ** 0.5).square() - _PEDESTAL
        gamma = bounded_below(self.gamma, _OFFSET).square() - _PEDESTAL
        norm = F.conv2d(x.square(), gamma[:, :, None, None], beta)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())


class _BoundedBelow(torch.autograd.Function):
    """max(x, least); the gradient passes where x is above the bound, or where a step along it would bring x back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, least: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.least = least
        return x.clamp(min=least)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        return gradient * ((x >= ctx.least) | (gradient < 0)), None


def bounded_below(x: Tensor, least: float) -> Tensor:
    """Return max(x, least), with a gradient that also moves values below the bound upwards."""
    return _BoundedBelow.apply(x, least)
