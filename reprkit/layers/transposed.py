"""A linear map with the transposed weight of another."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class TransposedLinear(nn.Module):
    """Map (... out) back to (... in) by the transposed weight of ``linear``, with a bias of its own, zero at first.

    The weight is the parameter of ``linear``, not a copy: one step of an optimizer changes both maps.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = nn.Parameter(linear.weight.new_zeros(linear.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """Map (... out) to (... in)."""
        return F.linear(x, self.weight.t(), self.bias)
