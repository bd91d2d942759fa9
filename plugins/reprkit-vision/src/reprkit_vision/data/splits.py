"""Splits that keep the parts alike in classes, or groups of examples together."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset
from reprkit.data.base import split_settings, split_sizes
from reprkit.errors import DataError


def shuffle_indices(size: int, seed: int) -> Int[Tensor, " n"]:
    """The numbers 0 to size - 1 in a random order given by the seed.

    Raises:
        DataError: the seed is not an integer in [0, 2^63).
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise DataError(f"seed must be an integer from 0, not {seed!r}")
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def rank_in_class(labels: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
    """The rank of every example, from 0, among the shuffled examples of its class."""
    order = shuffle_indices(len(labels), seed)
    order = order[labels[order].argsort(stable=True)]  # by class, shuffled within
    counts = torch.bincount(labels)
    starts = (counts.cumsum(0) - counts)[labels[order]]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(labels)) - starts
    return rank


def split_by_rank(
    data: Dataset,
    rank: Int[Tensor, " n"],
    size: int,
    seed: int,
    valid: bool,
    test_share: float,
    valid_share: float,
    *,
    what: str,
) -> tuple[Dataset, ...]:
    """Split a data set whose examples have ranks below ``size`` into train and test, or train, valid and test.

    Examples of equal rank go to the same part: the first ``test_share`` of the ranks to test, the next
    ``valid_share`` to valid.  The test part does not depend on ``valid``.  The examples of a part are shuffled:
    data is often sorted by class, and reports show the first examples.  ``what`` is counted by the ranks, for messages.

    Raises:
        DataError: shares out of range, or so few ranks that a part would be empty.
    """
    test_size, valid_size = split_sizes(size, valid, test_share, valid_share, what=what)
    chosen = {
        "train": rank >= test_size + valid_size,
        "valid": (rank >= test_size) & (rank < test_size + valid_size),
        "test": rank < test_size,
    }
    # Another seed than the ranks': in their order the examples of the largest class would come first.
    order, parts = shuffle_indices(len(rank), seed ^ 1), []
    for name, rows in chosen.items():
        if valid or name != "valid":
            part = data.subset(order[rows[order]], part=name)
            part.origin.update(split_settings(seed, valid, test_share, valid_share))
            parts.append(part)
    return tuple(parts)
