"""Split into train, valid and test by groups that stay together."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import derive_seed, held_out_share
from reprkit.errors import DataError

_SPLIT = 0x746F6C64  # separates the split's random numbers from others of the same seed


def split_groups(
    group: Int[Tensor, " n"], seed: int, valid: bool, test_share: float, valid_share: float
) -> dict[str, Int[Tensor, " m"]]:
    """Return part -> indices of its examples, in random order (a report shows the first ones); no group is in two parts.

    Shares are of groups.  The test part does not depend on ``valid``.

    Raises:
        DataError: shares out of range, or too few groups, so that a part would be empty.
    """
    held_out_share(valid, test_share, valid_share)
    groups, group_of = group.unique(return_inverse=True)
    generator = torch.Generator().manual_seed(derive_seed(seed, _SPLIT))
    rank = torch.randperm(len(groups), generator=generator)[group_of]
    test, valid_count = split_sizes(len(groups), len(group), valid, test_share, valid_share)
    order = torch.randperm(len(group), generator=generator)
    rank = rank[order]
    parts = {"train": order[rank >= test + valid_count]}
    if valid:
        parts["valid"] = order[(rank >= test) & (rank < test + valid_count)]
    return parts | {"test": order[rank < test]}


def split_sizes(
    groups: int, examples: int, valid: bool, test_share: float, valid_share: float
) -> tuple[int, int]:
    """Return how many groups go to test and to valid.

    Raises:
        DataError: shares out of range, or too few groups, so that a part would be empty.
    """
    held_out_share(valid, test_share, valid_share)
    test = max(1, round(groups * test_share))
    valid_count = max(1, round(groups * valid_share)) if valid else 0
    if test + valid_count >= groups:
        together = "" if groups == examples else f" in {groups} groups that stay together"
        raise DataError(
            f"{examples} examples{together} are too few for {'train, valid, test' if valid else 'train, test'} with "
            f"test_share={test_share}{f', valid_share={valid_share}' if valid else ''}"
        )
    return test, valid_count


def describe_split(seed: int, valid: bool, test_share: float, valid_share: float) -> dict[str, float]:
    """Return how a part was chosen, for ``describe``."""
    return {"seed": seed, "test_share": test_share, **({"valid_share": valid_share} if valid else {})}
