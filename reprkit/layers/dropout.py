"""Dropout whose noise is drawn for the global batch, so that training on several ranks equals training on one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprkit.utils.collectives import global_draw


class Dropout(nn.Module):
    """In training, set elements to zero with probability ``p`` and rescale the rest (Srivastava et al. 2014)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Map (b ...) to (b ...)."""
        if not self.training or self.p == 0:
            return x
        mask = global_draw(lambda shape: torch.rand(shape, device=x.device) >= self.p, tuple(x.shape))
        return x * (mask.to(x.dtype) / (1 - self.p))
