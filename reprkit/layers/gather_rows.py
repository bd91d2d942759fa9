"""Gather tokens by index, whole rows at a time: ``torch.gather`` works element by element, many times slower on a CPU."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def gather_rows(rows: Float[Tensor, "r d"], index: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
    """Gather rows by ``index``, each in [0, r)."""
    return rows.index_select(0, index.flatten()).unflatten(0, index.shape)


def gather_tokens(x: Float[Tensor, "b n d"], keep: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """Gather each example's tokens by the indices ``keep``, each in [0, n)."""
    starts = torch.arange(len(x), device=x.device).unsqueeze(1) * x.shape[1]
    return gather_rows(x.flatten(0, 1), keep + starts)
