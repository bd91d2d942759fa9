"""The windows of word2vec: the weight of each word of a context, by its distance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def pair_weights(n: int, window: int, like: Tensor) -> Float[Tensor, "n n"]:
    """Return how often two words of a row of ``n`` are a pair (n n): the expectation over windows.

    word2vec draws the size of each window uniformly from 1 to ``window``; words at distance r are then a pair with the probability
    (window + 1 - r) / window (Mikolov et al. 2013, arXiv 1301.3781, section 3.2).  A word is no pair with itself.
    """
    distance = _distances(n, like)
    return ((window + 1 - distance).clamp(min=0) / window).fill_diagonal_(0)


def mean_weights(n: int, window: int, like: Tensor) -> Float[Tensor, "n n"]:
    """Return the weight of each word in the mean of a context (n n): the expectation over windows, not normalized.

    A window of size r gives each of its words 1 / 2r.
    """
    sizes = torch.arange(1, window + 1, device=like.device, dtype=like.dtype)
    of_distance = (0.5 / sizes).flip(0).cumsum(0).flip(0) / window
    distance = _distances(n, like).long()
    inside = (distance >= 1) & (distance <= window)
    return of_distance[distance.clamp(1, window) - 1] * inside


def _distances(n: int, like: Tensor) -> Float[Tensor, "n n"]:
    positions = torch.arange(n, device=like.device, dtype=like.dtype)
    return (positions.unsqueeze(0) - positions.unsqueeze(1)).abs()
