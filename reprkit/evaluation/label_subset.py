"""Few labels: the part of a labelled data set that a protocol of N labels may look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int

from reprkit.errors import DataError
from reprkit.evaluation.encoding import batches, check_label

if TYPE_CHECKING:
    from reprkit.data.base import Dataset


def labels_of(data: Dataset, label: str = "label", asker: str = "the evaluator") -> Int[np.ndarray, " n"]:
    """The values of a label field, in the data's order (n,).

    Raises:
        DataError: the data has no label field of that name.
    """
    check_label(data, label, asker)
    return np.concatenate([each[label].cpu().numpy() for each in batches(data, "reading labels")])


def label_subset(data: Dataset, labels: int | None, *, label: str = "label", seed: int = 0) -> Dataset:
    """``labels`` examples, as many of each class as there can be; the data itself where ``labels`` is None.

    Drawn by ``seed``, and nested: those of a smaller number are among those of a larger one.  Class counts
    differ by one at most, unless a class has fewer examples than its share.

    Raises:
        DataError: fewer examples than asked for, or no label field of that name.
    """
    if labels is None:
        return data
    values = labels_of(data, label, f"labels={labels}")
    if labels > len(values):
        raise DataError(f"labels={labels} asks for more labelled examples than the {len(values):,} there are")
    shuffled = np.random.default_rng(seed).permutation(len(values))
    turn = np.empty(len(values), np.int64)  # an example's number among those of its class
    for each in np.unique(values):
        mine = values[shuffled] == each
        turn[mine] = np.arange(mine.sum())
    chosen = np.sort(shuffled[np.argsort(turn, kind="stable")[:labels]])
    return data.subset(torch.from_numpy(chosen), part=f"{labels} labels of {data.name}")
