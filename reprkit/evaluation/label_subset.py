"""Subsets of a labeled data set for protocols with few labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int

from reprkit.errors import DataError
from reprkit.evaluation.encoding import batches, check_label

if TYPE_CHECKING:
    from reprkit.data.base import Dataset


def labels_of(data: Dataset, label: str = "label", evaluator: str = "the evaluator") -> Int[np.ndarray, " n"]:
    """Return the values of a label field, in the data's order (n,).

    Raises:
        DataError: the data has no label field of that name.
    """
    check_label(data, label, evaluator)
    return np.concatenate([batch[label].cpu().numpy() for batch in batches(data, "reading labels")])


def label_subset(data: Dataset, labels: int | None, *, label: str = "label", seed: int = 0) -> Dataset:
    """Choose ``labels`` examples, balanced over classes; the data itself if ``labels`` is None.

    Drawn by ``seed``, and nested: a smaller subset is part of a larger one.  Class counts
    differ by one at most, unless a class has fewer examples than its share.

    Raises:
        DataError: there are fewer examples than ``labels``, or no label field of that name.
    """
    if labels is None:
        return data
    values = labels_of(data, label, f"labels={labels}")
    if labels > len(values):
        raise DataError(f"labels={labels} is more than the {len(values):,} labeled examples that there are")
    shuffled = np.random.default_rng(seed).permutation(len(values))
    rank = np.empty(len(values), np.int64)  # an example's rank within its class
    for value in np.unique(values):
        members = values[shuffled] == value
        rank[members] = np.arange(members.sum())
    chosen = np.sort(shuffled[np.argsort(rank, kind="stable")[:labels]])
    return data.subset(torch.from_numpy(chosen), part=f"{labels} labels of {data.name}")
