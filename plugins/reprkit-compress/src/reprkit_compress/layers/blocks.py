"""Residual blocks without normalization, whose result does not depend on the size of the picture."""

from __future__ import annotations

from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions of 3 with a residual connection; it starts as the identity (Theis et al. 2017, arXiv 1703.00395)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LeakyReLU(0.01),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width, width, 3, padding=1),
        )
        last = self.body[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (b d h w) to (b d h w)."""
        return x + self.body(x)
