"""Fashion-MNIST, from the files of Debian's dataset-fashion-mnist."""

from __future__ import annotations

from pathlib import Path

from reprkit.errors import DataError
from reprkit.utils.cache import cache_folder
from reprkit_vision.data.idx import Idx

CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
)  # fmt: skip


class Fashion(Idx):
    """Fashion-MNIST: 70,000 pictures of clothes of 28 x 28 in 10 classes, 7,000 a class.

    Fields: ``x`` image (28 28 1), float32 in [0, 1]; ``label``, with the names of the classes.  ``split`` returns the official
    60,000 training and 10,000 test images, and takes valid from train.

    Args:
        root: folder of the four files ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
            ``t10k-labels-idx1-ubyte``, plain or with ``.gz``; None: what ``reprkit vision fetch fashion`` has put into the cache.

    Raises:
        DataError: files that are missing or damaged, or images of another size.

    Source: Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
    arXiv 1708.07747.
    """

    def __init__(self, root: str | None = None) -> None:
        folder = fetched_folder() if root is None else Path(root).expanduser()
        images, labels, test_images, test_labels = (
            str(_find(folder, f"{part}-{what}-ubyte"))
            for part in ("train", "t10k")
            for what in ("images-idx3", "labels-idx1")
        )
        super().__init__(images, labels, test_images=test_images, test_labels=test_labels, classes=CLASSES)
        if self.signature["x"].shape != (28, 28, 1):
            raise DataError(
                f"{folder} holds images {self.signature['x'].shape}; those of Fashion-MNIST are (28, 28, 1)"
            )

    @property
    def name(self) -> str:
        """Short name for reports."""
        return "fashion"


def fetched_folder() -> Path:
    """The folder that ``reprkit vision fetch fashion`` fills."""
    return cache_folder("vision") / "fashion"


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise DataError(
        f"{name}.gz is not in {folder}\n  fetch Fashion-MNIST (31 MB, no root): reprkit vision fetch fashion"
    )
