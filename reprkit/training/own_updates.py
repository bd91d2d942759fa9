"""An optimizer of torch that updates some weights by a rule of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class OwnUpdates(Optimizer):
    """Base before an optimizer of torch: weights that ``is_own`` selects are updated by ``update_own``, all others by torch.

    Weights without a gradient are not updated.
    """

    def is_own(self, gradient: Tensor) -> bool:
        """Whether the weight of this gradient is updated by ``update_own``."""
        raise NotImplementedError

    def update_own(self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update one weight in place."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        updated = []
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and self.is_own(weight.grad):
                    self.update_own(weight, weight.grad, group)
                    updated.append((weight, weight.grad))
                    weight.grad = None  # torch's step skips the weight
        super().step()
        for weight, gradient in updated:
            weight.grad = gradient
        return loss
