"""Gaussian likelihood of real values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reprkit.likelihoods.location_scale import LocationScale

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class Gaussian(LocationScale):
    """Normal distribution of every element: ``mean``, ``log_scale`` (log standard deviation).

    By default one standard deviation for all elements is learned, so that a Kullback-Leibler term of weight 1 is appropriate for
    data of any scale (sigma-VAE: Rybkin et al. 2021, arXiv 2006.13202, section 3.2).

    Args:
        scale: standard deviation: "shared" (one, learned), "each" (predicted for every element), or a fixed number in data units;
            1.0 gives half the squared error and a constant.
        data: the signature of the data, field ``x``.

    Raises:
        PartArgumentError: the data holds symbols.
    """

    name = "gaussian"

    def standard_nll(self, value: Tensor) -> Tensor:
        """Return half the square and the constant."""
        return 0.5 * value.square() + _HALF_LOG_TAU

    def standard_sample(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw standard normal values."""
        return torch.empty_like(like, memory_format=torch.contiguous_format).normal_(generator=generator)

    def standard_log_mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the log-difference of the normal distribution function."""
        upper, lower = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
        return upper + torch.log1p(-torch.exp(lower - upper))
