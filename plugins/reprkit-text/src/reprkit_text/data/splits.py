"""Split into train, valid and test by groups that stay together."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import derive_seed, split_sizes

_SPLIT = 0x746F6C64  # separates the split's random numbers from others of the same seed


def split_groups(
    group: Int[Tensor, " n"], seed: int, valid: bool, test_share: float, valid_share: float
) -> dict[str, Int[Tensor, " m"]]:
    """Return part -> indices of its examples, in random order (a report shows the first ones); no group is in two parts.

    Shares are of groups.  The test part does not depend on ``valid``.

    Raises:
        DataError: shares out of range, or too few groups, so that a part would be empty.
    """
    groups, group_of = group.unique(return_inverse=True)
    count = len(groups)
    what = "examples" if count == len(group) else f"groups that stay together (of {len(group)} examples)"
    test, valid_count = split_sizes(count, valid, test_share, valid_share, what=what)
    generator = torch.Generator().manual_seed(derive_seed(seed, _SPLIT))
    rank = torch.randperm(count, generator=generator)[group_of]
    order = torch.randperm(len(group), generator=generator)
    rank = rank[order]
    parts = {"train": order[rank >= test + valid_count]}
    if valid:
        parts["valid"] = order[(rank >= test) & (rank < test + valid_count)]
    return parts | {"test": order[rank < test]}
