"""Train, valid and test by groups that stay together."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import derive_seed, held_out_share
from reprkit.errors import DataError

_SPLIT = 0x746F6C64  # keeps the split's randomness apart from others of the same seed


def divided(
    group: Int[Tensor, " n"], seed: int, valid: bool, test_share: float, valid_share: float
) -> dict[str, Int[Tensor, " m"]]:
    """Part -> the places that fall to it, in random order (a report shows the first ones); no group is in two parts.

    Shares are of groups.  The test part does not depend on ``valid``.

    Raises:
        DataError: shares out of range, or so few groups that a part would be empty.
    """
    held_out_share(valid, test_share, valid_share)
    groups, of_each = group.unique(return_inverse=True)
    generator = torch.Generator().manual_seed(derive_seed(seed, _SPLIT))
    place = torch.randperm(len(groups), generator=generator)[of_each]
    test, held = counts(len(groups), len(group), valid, test_share, valid_share)
    order = torch.randperm(len(group), generator=generator)
    place = place[order]
    parts = {"train": order[place >= test + held]}
    if valid:
        parts["valid"] = order[(place >= test) & (place < test + held)]
    return parts | {"test": order[place < test]}


def counts(groups: int, examples: int, valid: bool, test_share: float, valid_share: float) -> tuple[int, int]:
    """How many groups go to test and to valid.

    Raises:
        DataError: shares out of range, or so few groups that a part would be empty.
    """
    held_out_share(valid, test_share, valid_share)
    test = max(1, round(groups * test_share))
    held = max(1, round(groups * valid_share)) if valid else 0
    if test + held >= groups:
        together = "" if groups == examples else f" in {groups} groups that stay together"
        raise DataError(
            f"{examples} examples{together} are too few for {'train, valid, test' if valid else 'train, test'} with "
            f"test_share={test_share}{f', valid_share={valid_share}' if valid else ''}"
        )
    return test, held


def origin(seed: int, valid: bool, test_share: float, valid_share: float) -> dict[str, float]:
    """How a part was chosen, for ``describe``."""
    return {"seed": seed, "test_share": test_share, **({"valid_share": valid_share} if valid else {})}
