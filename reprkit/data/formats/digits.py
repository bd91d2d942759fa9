"""Handwritten digits: a small set of real images that needs no download."""

from __future__ import annotations

import torch

from reprkit.data.formats.tensors import Tensors
from reprkit.data.signature import Field, Signature


class Digits(Tensors):
    """1,797 handwritten digits of 8 x 8 gray pixels by 13 writers, as scikit-learn ships them.

    Fields: ``x`` image (8 8 1), float32 in [0, 1] (ink counts of 4 x 4 blocks, 0 to 16, divided by 16);
    ``label`` int64, 0 to 9, for evaluation only.

    Source: Alpaydin and Kaynak 1998, "Cascading classifiers", Kybernetika 34(4); the test part of UCI's
    "Optical Recognition of Handwritten Digits".
    """

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        super().__init__(
            {
                "x": torch.from_numpy(images).float().div(16).reshape(-1, 8, 8, 1),
                "label": torch.from_numpy(labels).long(),
            },
            Signature(
                {
                    "x": Field(kind="image", shape=(8, 8, 1), range=(0.0, 1.0)),
                    "label": Field(kind="label", shape=(), vocab=10),
                }
            ),
            name="digits",
        )
