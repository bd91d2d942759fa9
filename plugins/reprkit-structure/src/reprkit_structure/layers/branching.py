"""Trees that need no model: left, right, balanced and random branching, the baselines of unsupervised parsing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def branching_chart(
    lengths: Int[Tensor, " b"], split: Callable[[int, int], int], count: int | None = None
) -> Bool[Tensor, "b n n"]:
    """Return the chart of trees whose spans from ``i`` to ``j`` (words, both included) are split after word ``split(i, j)``."""
    count = int(lengths.max()) if count is None else count
    chart = torch.zeros(len(lengths), count, count, dtype=torch.bool)
    for row, length in enumerate(lengths.tolist()):
        waiting = [(0, length - 1)]
        while waiting:
            i, j = waiting.pop()
            chart[row, i, j] = True
            if i < j:
                middle = split(i, j)
                waiting += [(i, middle), (middle + 1, j)]
    return chart


def baseline_chart(
    name: str, lengths: Int[Tensor, " b"], *, seed: int = 0, count: int | None = None
) -> Bool[Tensor, "b n n"]:
    """Return the trees of a baseline: "left", "right", "balanced" (the left half is the larger), or "random".

    "random" splits every span at a place drawn uniformly, from a generator of its own with ``seed``.
    """
    generator = torch.Generator().manual_seed(seed)
    splits: dict[str, Callable[[int, int], int]] = {
        "left": lambda i, j: j - 1,
        "right": lambda i, j: i,
        "balanced": lambda i, j: (i + j) // 2,
        "random": lambda i, j: i + int(torch.randint(j - i, (), generator=generator)),
    }
    return branching_chart(lengths, splits[name], count)


BASELINES = ("left", "right", "balanced", "random")
