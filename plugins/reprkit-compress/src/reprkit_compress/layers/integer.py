"""A network in whole numbers, whose results are the same on every machine (Ballé, Johnston and Minnen 2019).

Writer and reader of a string must choose the same tables.  A float may be rounded differently by another machine, thread count or
batch size, and the string then decodes to noise.  Here weights and activations are whole numbers, held in float64: products and
sums stay below 2^53, so they are exact in whatever order they are added.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprkit.latents.functional import straight_through

ACTIVATION = 2.0**6  # an activation is a whole number of 1 / 64
WEIGHT = 2.0**12
SUM = ACTIVATION * WEIGHT  # unit of the sums of products
_LARGEST = 2.0**16  # of weights and activations: 2^32 a product, so that 2^21 of them stay below 2^53


def whole(x: Tensor, low: float, high: float) -> Tensor:
    """Round to whole numbers from low to high; the gradient is that of x."""
    return straight_through((x + 0.5).floor().clamp(low, high), x)


class IntegerConv(nn.Module):
    """A convolution of 3 x 3 in whole numbers: activations in units of 1/64 to sums in units of 1/2^18.

    It is a matrix product in float64: convolutions of libraries may use transforms that are not exact.
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, 9 * width))
        self.bias = nn.Parameter(torch.zeros(out))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (9 * width)))

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b o h w"]:
        """Return the sums."""
        # Scaling by a power of two is exact, so that the same weights give the same whole numbers everywhere.
        weight = whole(self.weight.double() * WEIGHT, -_LARGEST, _LARGEST)
        bias = whole(self.bias.double() * SUM, -(2.0**40), 2.0**40)
        sums = weight @ F.unfold(x, 3, padding=1) + bias.unsqueeze(-1)
        return sums.unflatten(-1, x.shape[2:])


def rectified(sums: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
    """Return activations of sums: rounded to their unit, negative ones set to 0."""
    return whole(F.relu(sums) / WEIGHT, 0.0, _LARGEST)


class IntegerSynthesis(nn.Module):
    """From whole numbers on a map to ``out`` sums on a map of four times its sides: three integer convolutions.

    Args:
        width: channels of the input.
        hidden: channels between the convolutions.
        out: channels of the output.
    """

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.first = IntegerConv(width, hidden)
        self.second = IntegerConv(hidden, 4 * hidden)
        self.last = IntegerConv(hidden, 4 * out)
        with torch.no_grad():
            self.last.weight.mul_(0.1)

    def forward(
        self, z: Float[Tensor, "b d h w"], valid: Bool[Tensor, "b 1 h w"] | None
    ) -> Float[Tensor, "b o h4 w4"]:
        """Return the sums; cells that are not valid count as lying outside of the map."""
        x = z.double() * ACTIVATION
        x = straight_through(x.round(), x)  # whole already, but for the noise in training
        keep = (lambda x, times: x) if valid is None else (lambda x, times: x * _repeat(valid, times))
        x = keep(rectified(self.first(keep(x, 1))), 1)
        x = keep(rectified(F.pixel_shuffle(self.second(x), 2)), 2)
        return F.pixel_shuffle(self.last(x), 2)


def _repeat(valid: Tensor, times: int) -> Tensor:
    return valid.repeat_interleave(times, 2).repeat_interleave(times, 3)
