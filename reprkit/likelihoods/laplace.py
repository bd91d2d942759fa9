"""Laplace likelihood of real values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reprkit.likelihoods.location_scale import LocationScale

_LOG_2 = math.log(2)


class Laplace(LocationScale):
    """Double exponential distribution of every element: ``mean``, ``log_scale``; its tails are heavier than a Gaussian's.

    The loss is the absolute error over the scale b, and the standard deviation is b times the square root of 2.

    Args:
        scale: the scale b: "shared" (one, learned), "each" (predicted for every element), or a fixed number in data units; 1.0
            gives the absolute error and a constant.
        data: the signature of the data, field ``x``.

    Raises:
        PartArgumentError: the data holds symbols.
    """

    name = "laplace"

    def standard_nll(self, value: Tensor) -> Tensor:
        """Return the absolute value and the constant."""
        return value.abs() + _LOG_2

    def standard_sample(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw the difference of two exponential values."""
        pair = like.new_empty((2, *like.shape)).exponential_(generator=generator)
        return pair[0] - pair[1]

    def standard_log_mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the log-probability below 0, or of an interval around 0."""
        tail = high - _LOG_2 + torch.log(-torch.expm1(low - high))
        around = torch.log1p(-0.5 * (torch.exp(low) + torch.exp(-high)))
        return torch.where(high > 0, around, tail)
