"""The factorized entropy model of learned compression: one learned density a dimension, without a fixed form."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LEAST = 1e-9  # of a mass, so that a rare value has finite bits: 30 of them


class FactorizedEntropy(nn.Module):
    """The density of each of ``dim`` values by a small monotone network (Ballé et al. 2018, appendix 6.1).

    The network of a dimension maps a value to the logit of its cumulative distribution; it increases because its
    weights are positive (softplus) and its nonlinearity is x + tanh(a) tanh(x).

    Args:
        dim: number of values, each with a network of its own.
        widths: widths of the hidden layers of each network.
        scale: the density's width at the start: about all of it lies within this distance of 0.
    """

    def __init__(self, dim: int, widths: tuple[int, ...] = (3, 3, 3), scale: float = 10.0) -> None:
        super().__init__()
        sizes = (1, *widths, 1)
        step = scale ** (1 / (len(sizes) - 1))
        self.weights, self.biases, self.gates = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for before, after in itertools.pairwise(sizes):
            weight = (
                torch.full((dim, after, before), 1 / step / after).expm1().log()
            )  # softplus gives 1 / step / after
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.empty(dim, after, 1).uniform_(-0.5, 0.5)))
            if len(self.weights) < len(sizes) - 1:
                self.gates.append(nn.Parameter(torch.zeros(dim, after, 1)))

    def logits(self, x: Float[Tensor, "d 1 m"]) -> Float[Tensor, "d 1 m"]:
        """Return the logits of the cumulative distribution at x."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, F.softplus(weight), x)
            if layer < len(self.gates):
                x = x + torch.tanh(self.gates[layer]) * torch.tanh(x)
        return x

    def log_mass(self, z: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Return the log-probability of the interval of length 1 around each value, nats.

        It is also the log-density of a value with uniform noise in ±1/2 added (their equation 29).
        """
        x = z.to(self.weights[0].dtype).flatten(0, 1).T.unsqueeze(1)
        lower, upper = self.logits(torch.cat([x - 0.5, x + 0.5], -1)).chunk(2, -1)
        sign = -torch.sign(
            lower + upper
        ).detach()  # the tail where the difference of sigmoids keeps its digits
        mass = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        # The bound passes gradients on, so that a value of no mass still moves towards the others.
        mass = mass + (mass.clamp(min=LEAST) - mass).detach()
        return mass.log().squeeze(1).T.reshape(z.shape)
