"""Classifier of sequences of tokens, which ignores padding."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprkit.models.factor import masked_mean


class SequenceClassifier(nn.Module):
    """Convolutions over tokens or frames, mean over them, and a linear map: (b n d) to a logit per class (b k).

    Without convolutions (``depth`` 0) it is a linear classifier of the mean.
    """

    def __init__(self, in_dim: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [in_dim] + [width] * depth
        self.layers = nn.ModuleList(nn.Conv1d(widths[index], width, 3, padding=1) for index in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.last = nn.Linear(widths[-1], classes)

    def forward(self, z: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b k"]:
        """Return the logit of each class; padding counts as zero, as beyond the ends."""
        padding = None if mask is None else ~mask.unsqueeze(-1)
        x = z.to(self.last.weight.dtype)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x if padding is None else x.masked_fill(padding, 0.0)
            x = F.leaky_relu(norm(layer(x.mT).mT), 0.2)
        return self.last(masked_mean(x, mask))
