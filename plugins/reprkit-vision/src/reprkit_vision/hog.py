"""Histograms of oriented gradients: features of pictures without training, as a baseline of networks that learn them."""

from __future__ import annotations

import numpy as np
import torch

from reprkit import Dataset, Field, Signature
from reprkit.data import Tensors
from reprkit.errors import DataError


def hog_features(data: Dataset, cell: int = 4, label: str = "label") -> Dataset:
    """Return the HOG features of pictures, field ``x`` (d,), with their labels (Dalal and Triggs 2005, CVPR).

    9 orientations, cells of ``cell`` x ``cell`` pixels, blocks of 2 x 2 cells, normalized by L2-Hys; of colors the channel with the
    largest gradient counts, as scikit-image has it.

    Raises:
        DataError: x is no image of one or three channels, it has fewer than 2 x 2 cells, or there is no such label.
    """
    from skimage.feature import hog

    field = data.signature["x"]
    if field.kind != "image" or field.channels not in (1, 3):
        raise DataError(f"HOG reads images of one or three channels, and x is {field.kind} {field.shape}")
    if label not in data.signature:
        raise DataError(f"the data has no label field {label!r}, only {', '.join(data.signature)}")
    if min(int(side or 0) for side in field.shape[:2]) < 2 * cell:
        raise DataError(
            f"HOG of cells of {cell} pixels needs pictures of at least {2 * cell} pixels a side, and these are "
            f"{field.shape[0]} x {field.shape[1]}: use a smaller cell"
        )
    features, labels = [], []
    for batch in data.batches(1024):
        for picture in batch["x"].numpy():
            found = hog(picture, pixels_per_cell=(cell, cell), cells_per_block=(2, 2), channel_axis=-1)
            features.append(found.astype(np.float32))
        labels.append(batch[label])
    x = torch.from_numpy(np.stack(features))
    fields = {"x": Field(kind="vector", shape=(x.shape[1],)), label: data.signature[label]}
    return Tensors({"x": x, label: torch.cat(labels)}, Signature(fields), name=f"HOG of {data.name}")
