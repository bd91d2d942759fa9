"""Faces and pictures without one, from the package scikit-image."""

from __future__ import annotations

import torch

from reprkit import Field, Signature
from reprkit.data import Tensors


class Faces(Tensors):
    """100 faces and 100 pictures of other things, 25 x 25 gray pixels, as scikit-image ships them.

    Fields: ``x`` image (25 25 1), float32 in [0, 1]; ``label`` int64, 0 "face" or 1 "no face".

    Source: Huang et al. 2007, "Labeled Faces in the Wild", University of Massachusetts, Amherst, report 07-49.
    """

    def __init__(self) -> None:
        from skimage.data import lfw_subset

        pictures = torch.from_numpy(lfw_subset()).float().unsqueeze(-1)
        super().__init__(
            {"x": pictures, "label": torch.arange(200) // 100},
            Signature(
                {
                    "x": Field(kind="image", shape=(25, 25, 1), range=(0.0, 1.0)),
                    "label": Field(kind="label", shape=(), vocab=2, classes=("face", "no face")),
                }
            ),
            name="faces",
        )
