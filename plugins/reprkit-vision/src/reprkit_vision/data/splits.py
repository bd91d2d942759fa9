"""Divisions that a data set brings itself: by class, by photograph, or as its authors made them."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset
from reprkit.errors import DataError


def shuffled(size: int, seed: int) -> Int[Tensor, " n"]:
    """The numbers 0 to size - 1 in the order of a seed.

    Raises:
        DataError: the seed is no whole number from 0.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise DataError(f"seed is a whole number from 0, not {seed!r}")
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def balanced(labels: Int[Tensor, " n"], seed: int) -> Int[Tensor, " n"]:
    """For every example its place, from 0, in the shuffled row of its class."""
    order = shuffled(len(labels), seed)
    order = order[labels[order].argsort(stable=True)]  # by class, shuffled within
    counts = torch.bincount(labels)
    starts = (counts.cumsum(0) - counts)[labels[order]]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(labels)) - starts
    return place


def parts(
    data: Dataset,
    place: Int[Tensor, " n"],
    size: int,
    seed: int,
    valid: bool,
    test_share: float,
    valid_share: float,
) -> tuple[Dataset, ...]:
    """Train and test, or train, valid and test, of a data set whose examples stand in rows of ``size`` places.

    An example goes where its place goes: the first ``test_share`` of the places to test, the next
    ``valid_share`` to valid.  The test part does not depend on ``valid``.  A part's examples are shuffled:
    data often lies class by class, and its first examples are those that a report shows.

    Raises:
        DataError: shares out of range, or so few places that a part would be empty.
    """
    wanted = test_share + (valid_share if valid else 0)
    if not (0 < test_share < 1 and 0 < valid_share < 1 and wanted < 1):
        raise DataError(
            f"shares lie between 0 and 1 and leave something to train on, not test_share={test_share}, "
            f"valid_share={valid_share}"
        )
    test = max(1, round(size * test_share))
    held = max(1, round(size * valid_share)) if valid else 0
    if test + held >= size:
        raise DataError(
            f"{size} are too few to divide with test_share={test_share}, valid_share={valid_share}"
        )
    chosen = {
        "train": place >= test + held,
        "valid": (place >= test) & (place < test + held),
        "test": place < test,
    }
    how = {"seed": seed, "test_share": test_share, **({"valid_share": valid_share} if valid else {})}
    # Of another seed: in the order that gave the places, those of the largest class would come first.
    order, made = shuffled(len(place), seed ^ 1), []
    for name, rows in chosen.items():
        if valid or name != "valid":
            part = data.subset(order[rows[order]], part=name)
            part.origin.update(how)
            made.append(part)
    return tuple(made)
