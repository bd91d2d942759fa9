"""The noise of a diffusion: its schedule, the three predictions, and one step of a sampler."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Prediction = Literal["noise", "data", "velocity"]
Schedule = Literal["linear", "cosine"]


def signal_shares(schedule: Schedule, steps: int) -> Float[Tensor, " t"]:
    """Return the share of the variance that is still data at each step, ᾱ_t in (0, 1), float64.

    "linear": β from 0.0001 to 0.02 (Ho et al. 2020, section 4, for 1,000 steps).  "cosine": Nichol and Dhariwal 2021 (arXiv
    2102.09672, eq. 17), β at most 0.999.
    """
    if schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)
    else:
        time = torch.arange(steps + 1, dtype=torch.float64) / steps
        share = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
        betas = (1 - share[1:] / share[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - betas, 0)


def add_noise(data: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """Return the noised data, sqrt(ᾱ) data + sqrt(1 - ᾱ) noise (Ho et al. 2020, eq. 4)."""
    return share.sqrt() * data + (1 - share).sqrt() * noise


def prediction_target(prediction: Prediction, data: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """Return what the network is to predict; "velocity" is that of Salimans and Ho 2022 (arXiv 2202.00512, section 4)."""
    if prediction == "noise":
        return noise
    return data if prediction == "data" else share.sqrt() * noise - (1 - share).sqrt() * data


def predicted_data(prediction: Prediction, predicted: Tensor, noised: Tensor, share: Tensor) -> Tensor:
    """Return the estimate of the data that a prediction at a noised example implies."""
    if prediction == "data":
        return predicted
    if prediction == "noise":
        return (noised - (1 - share).sqrt() * predicted) / share.sqrt()
    return share.sqrt() * noised - (1 - share).sqrt() * predicted


def previous_step(
    noised: Tensor, data: Tensor, share: Tensor, earlier: Tensor, eta: float, noise: Tensor | None
) -> Tensor:
    """Return the example at an earlier step, given the estimate of the data (Song et al. 2021, arXiv 2010.02502, eq. 12 and 16).

    Args:
        noised: the example at the present step.
        data: the estimate of the data.
        share: ᾱ of the present step.
        earlier: ᾱ of the earlier step; 1 for the data itself.
        eta: 0 is DDIM, without noise; 1 is the ancestral sampler of DDPM (Ho et al. 2020, eq. 7, with the variance β̃).
        noise: from N(0, 1); None where ``eta`` is 0.
    """
    direction = (noised - share.sqrt() * data) / (1 - share).sqrt()
    deviation = eta * ((1 - earlier) / (1 - share) * (1 - share / earlier)).clamp(min=0).sqrt()
    result = earlier.sqrt() * data + (1 - earlier - deviation.square()).clamp(min=0).sqrt() * direction
    return result if noise is None else result + deviation * noise
