"""Words in tensors: where a text ends, and texts of other lengths cut and closed alike."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def until_end(indices: Int[Tensor, "b m"], end: int) -> Bool[Tensor, "b m"]:
    """Which words count: those up to and with the first ``end``; all where there is none."""
    ended = (indices == end).long().cumsum(1)
    return (ended - (indices == end).long()) == 0


def closed(
    words: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None, *, end: int, length: int
) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
    """Texts as a generator of at most ``length`` words writes them: cut there, and ended where they are shorter.

    The valid words come first, whatever the mask looks like; behind them stands ``end``, and then nothing that counts.  A text
    that brings its own ``end`` keeps it.
    """
    if mask is None:
        mask = torch.ones_like(words, dtype=torch.bool)
    order = (~mask).long().argsort(dim=1, stable=True)
    words = words.gather(1, order).masked_fill(~mask.gather(1, order), end)
    short = length - words.shape[1]
    if short > 0:
        words = torch.cat([words, words.new_full((len(words), short), end)], 1)
    words = words[:, :length]
    valid = until_end(words, end)
    return words.masked_fill(~valid, end), valid
