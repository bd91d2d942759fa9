"""Muon for weight matrices and AdamW for all other weights, as one optimizer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from reprkit.training.own_updates import OwnUpdates

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration; Jordan et al.
_EPS = 1e-7


class Muon(OwnUpdates, AdamW):
    """Orthogonalized momentum for 2-d weights (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), AdamW for the rest.

    The update of a matrix has the root mean square of an AdamW update (Liu et al. 2025, arXiv 2502.16982), so learning rate and
    weight decay are those of AdamW for all weights.  torch's own Muon takes 2-d weights only.

    Args:
        params: the weights, or groups of them.
        lr: learning rate.
        weight_decay: decoupled, of all weights in the group.
        momentum: of the matrices.
        nesterov: whether the matrices use Nesterov momentum.
        ns_steps: Newton-Schulz iterations of the orthogonalization.
        betas: of AdamW, for all other weights.
        eps: of AdamW.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        weight_decay: float = 1e-2,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not 0 <= momentum < 1 or not 1 <= ns_steps < 100:
            raise ValueError(f"momentum={momentum} must be in [0, 1), ns_steps={ns_steps} from 1 to 99")
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        for group in self.param_groups:
            for name, value in (("momentum", momentum), ("nesterov", nesterov), ("ns_steps", ns_steps)):
                group.setdefault(name, value)

    def is_own(self, gradient: Tensor) -> bool:
        """Whether the weight is a matrix."""
        return gradient.ndim == 2

    def update_own(self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        """Take a step of orthogonalized momentum."""
        state, momentum, lr = self.state[weight], group["momentum"], float(group["lr"])
        if not state:
            state["step"] = torch.zeros(
                (), dtype=torch.float32
            )  # AdamW expects it of every weight when it loads a state
            state["momentum_buffer"] = torch.zeros_like(weight)
        state["step"] += 1
        mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = orthogonalize(
            gradient.lerp(mean, momentum) if group["nesterov"] else mean, steps=group["ns_steps"]
        )
        weight.mul_(1 - lr * group["weight_decay"])
        weight.add_(update.to(weight.dtype), alpha=-lr * 0.2 * math.sqrt(max(weight.shape)))


def orthogonalize(matrix: Tensor, *, steps: int) -> Tensor:
    """Return a matrix (m n) with the singular vectors of ``matrix`` and singular values near 1, in bfloat16."""
    a, b, c = _COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=_EPS)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
