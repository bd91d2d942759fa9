"""Folds: equal parts of a data set, each of which is the test part once; examples of one identity stay together."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from reprkit.data.base import Dataset, Subset
from reprkit.data.identity import split_by_identity
from reprkit.errors import DataError


def fold(
    data: Dataset, number: int, *, count: int = 5, seed: int = 0, valid_share: float = 0.1
) -> tuple[Subset, Subset, Subset]:
    """Return train, valid and test of one of ``count`` folds; each example is in the test part of one of them.

    Identities are put in the order of a hash of each and ``seed``, and dealt to the folds in turn, so that these have equal numbers
    of identities.  Valid is drawn from the other folds, by identity.  The statistics of the signature are those of
    train; those of a subset stay as they are.

    Args:
        data: the data set, whose ``identities()`` stay together; without any, examples are divided one by one.
        number: of the fold that is test, from 0.
        count: of folds, at least 2.
        seed: of the division.
        valid_share: share of valid, of the identities that are not test.

    Raises:
        DataError: a number or share out of range, or too few identities.
    """
    if count < 2 or not 0 <= number < count:
        raise DataError(f"fold {number} of {count}: there must be two folds or more, numbered from 0")
    if not 0 < valid_share < 1:
        raise DataError(f"valid_share must lie between 0 and 1, not {valid_share}")
    known = data.identities()
    given = [str(row) for row in range(len(data))] if known is None else [str(name) for name in known]
    names = sorted(set(given), key=lambda name: hashlib.blake2b(f"{seed}\0{name}".encode()).digest())
    if len(names) < count + 2:
        raise DataError(f"{len(names)} examples or groups that stay together are too few for {count} folds")
    folds = {name: place % count for place, name in enumerate(names)}
    held = np.array([folds[name] == number for name in given])
    rest, test = (torch.from_numpy(np.flatnonzero(rows)) for rows in (~held, held))
    pieces = split_by_identity([given[row] for row in rest.tolist()], seed, False, valid_share, 0.5, level=1)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
    rows = {"train": rest[pieces["train"]], "valid": rest[pieces["test"]], "test": test[order]}
    whole = data.fit_statistics(rows["train"])
    parts = [Subset(whole, indices, part=part) for part, indices in rows.items()]
    for part in parts:
        part.origin.update({"fold": number, "folds": count, "seed": seed, "valid_share": valid_share})
    return parts[0], parts[1], parts[2]
