"""Dropout whose noise is that of the joined batch, so that two processes train as one would."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprkit.utils.collectives import global_draw


class Dropout(nn.Module):
    """In training zeroes elements with probability ``p`` and rescales the rest (Srivastava et al. 2014)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(b ...) to (b ...)."""
        if not self.training or self.p == 0:
            return x
        kept = global_draw(lambda shape: torch.rand(shape, device=x.device) >= self.p, tuple(x.shape))
        return x * (kept.to(x.dtype) / (1 - self.p))
