"""Texts as tensors of words: mask them at the end word; cut and end given texts."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def mask_until_end(indices: Int[Tensor, "b m"], end: int) -> Bool[Tensor, "b m"]:
    """Return the mask of words up to and including the first ``end``; all where there is none."""
    ended = (indices == end).long().cumsum(1)
    return (ended - (indices == end).long()) == 0


def cut_and_end(
    words: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None, *, end: int, length: int
) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
    """Cut texts to ``length`` words and end shorter ones, as a generator of at most ``length`` words writes them.

    The valid words are moved to the front; ``end`` follows them, and everything after it is masked.  A text that contains ``end``
    keeps it.
    """
    if mask is None:
        mask = torch.ones_like(words, dtype=torch.bool)
    order = (~mask).long().argsort(dim=1, stable=True)
    words = words.gather(1, order).masked_fill(~mask.gather(1, order), end)
    short = length - words.shape[1]
    if short > 0:
        words = torch.cat([words, words.new_full((len(words), short), end)], 1)
    words = words[:, :length]
    valid = mask_until_end(words, end)
    return words.masked_fill(~valid, end), valid
