"""Mates: an order of examples in which several members of a group share a batch."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.errors import DataError


def groups_of(data: Dataset, field: str) -> Int[Tensor, " n"]:
    """Return the group of every example, from a label field (n,).

    Raises:
        DataError: the data has no such label field, or no group has two members.
    """
    if field not in data.signature or data.signature[field].kind != "label":
        raise DataError(
            f"groups={field!r} is not a label field of {data.name}; it has {', '.join(data.signature.label_fields()) or 'none'}"
        )
    groups = data.label_values(field)
    if len(groups.unique()) == len(groups):
        raise DataError(f"groups={field!r}: no two examples of {data.name} have the same {field}")
    return groups


def order_mates(
    shuffled: Int[Tensor, " n"], groups: Int[Tensor, " n"], mates: int, generator: torch.Generator
) -> Int[Tensor, " n"]:
    """Reorder an epoch so that each ``mates`` examples in a row are of one group.

    The members of a group are taken in the shuffled order, so mates change from epoch to epoch.  A group's last members, fewer than
    ``mates``, share rows with those of other groups: an epoch has every example once.

    Args:
        shuffled: the order of an epoch (n,).
        groups: of all examples, in the data set's order (n,).
        mates: examples of a group in a row, from 2.
        generator: for the order of the rows.
    """
    by_group = shuffled[groups[shuffled].argsort(stable=True)]
    _, sizes = groups[by_group].unique_consecutive(return_counts=True)
    place = torch.arange(len(by_group)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    whole = place < (sizes // mates * mates).repeat_interleave(sizes)
    rest = by_group[~whole]
    rest = rest[torch.randperm(len(rest), generator=generator)]
    end = len(rest) // mates * mates
    rows = torch.cat([by_group[whole], rest[:end]]).view(-1, mates)
    return torch.cat([rows[torch.randperm(len(rows), generator=generator)].flatten(), rest[end:]])
