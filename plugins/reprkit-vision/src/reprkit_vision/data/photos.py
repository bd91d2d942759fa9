"""Crops of photographs, split by photograph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit.interfaces import require
from reprkit.registry.constraints import Count, Seed
from reprkit.utils.cache import cache_folder
from reprkit_vision.data.splits import shuffle_indices, split_by_rank

# scikit-image's color photographs, by the function of skimage.data that reads them.
_SKIMAGE = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")


class Photos(Tensors):
    """Square crops of color photographs, split by photograph.

    Ten photographs come with scikit-image and scikit-learn; 218 more of animals, monuments and tools are available
    after ``reprkit vision fetch photos``.

    Fields: ``x`` image (size size 3), float32 in [0, 1]; ``photo`` label, the index of a crop's photograph.
    A photograph is first downscaled until its shorter side has ``side`` pixels; one that is smaller than a
    crop is skipped.  ``split`` divides photographs, so no two parts share one.

    Args:
        size: side of a crop in pixels.
        crops: number of crops of each photograph, at random positions.
        stride: take all crops on a grid with this spacing in pixels, instead of ``crops``.
        side: pixels of a photograph's shorter side, at least ``size``; 1,000,000 leaves all as they are.
        light: "bright" or "dark": the third of the photographs of the highest or the lowest mean gray value, such as day and dusk.
        fetched: include Debian's gcompris-qt-data (mostly CC-BY-SA 3.0 and public domain, per file).
        seed: of the positions.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: photographs that were not fetched yet, or no photograph that is large enough.
    """

    def __init__(
        self,
        size: Count = 32,
        *,
        crops: Count = 64,
        stride: Count | None = None,
        side: Count = 160,
        light: Literal["all", "bright", "dark"] = "all",
        fetched: bool = False,
        seed: Seed = 0,
    ) -> None:
        require(side >= size, f"dataset photos: side={side} must be at least size={size}")
        crops_of: list[np.ndarray] = []
        owners: list[Tensor] = []
        self.names: list[str] = []
        self._numbers: list[
            int
        ] = []  # place of each photograph among all, also those that are too small here
        photographs = [(name, _downscale(photo, side)) for name, photo in _photographs(fetched)]
        photographs = _choose_light(photographs, light)
        for number, (name, pixels) in enumerate(photographs):
            if min(pixels.shape[:2]) < size:
                continue
            squares = _cut_crops(pixels, size, crops, stride, np.random.default_rng((seed, number)))
            crops_of.append(squares)
            owners.append(torch.full((len(squares),), len(self.names)))
            self.names.append(name)
            self._numbers.append(number)
        self._all = len(photographs)
        if not crops_of:
            raise DataError(f"no photograph is large enough for crops of {size} pixels")
        super().__init__(
            {"x": torch.from_numpy(np.concatenate(crops_of)), "photo": torch.cat(owners)},
            Signature(
                {
                    "x": Field(kind="image", shape=(size, size, 3), range=(0.0, 1.0)),
                    "photo": Field(kind="label", shape=(), vocab=len(self.names), classes=tuple(self.names)),
                }
            ),
            divisors={"x": 255.0},
            name="photos",
        )

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split into train and test, or train, valid and test; shares are of all photographs, at least one a part.

        The part of a photograph does not depend on ``size``: where some are too small for a crop, the others keep their parts.

        Raises:
            DataError: shares out of range, or too few photographs.
        """
        rank = torch.empty(self._all, dtype=torch.int64)
        rank[shuffle_indices(self._all, seed)] = torch.arange(self._all)
        rank = rank[torch.tensor(self._numbers)]
        shares = (valid, test_share, valid_share)
        return split_by_rank(self, rank[self.owners], self._all, seed, *shares, what="photographs")

    @property
    def owners(self) -> Tensor:
        """Index of each crop's photograph (n,)."""
        return self._values["photo"]


def fetched_folder() -> Path:
    """The folder that ``reprkit vision fetch photos`` fills."""
    return cache_folder("vision") / "photos"


def _choose_light(photographs: list[tuple[str, np.ndarray]], light: str) -> list[tuple[str, np.ndarray]]:
    """Return the third of the photographs with the highest or lowest mean, in their order, or all."""
    order = np.argsort([pixels.mean() for _, pixels in photographs], kind="stable")
    third = len(order) // 3
    numbers = {"all": order, "dark": order[:third], "bright": order[len(order) - third :]}[light]
    return [photographs[number] for number in sorted(numbers)]


def _photographs(fetched: bool) -> Iterator[tuple[str, Image.Image]]:
    """Yield each photograph with its name, always in the same order."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    for name in _SKIMAGE:
        yield name, Image.fromarray(getattr(skimage.data, name)())
    yield "motorcycle", Image.fromarray(skimage.data.stereo_motorcycle()[0])
    samples = load_sample_images()
    for name, pixels in zip(samples.filenames, samples.images, strict=True):
        yield Path(name).stem, Image.fromarray(pixels)
    if not fetched:
        return
    files = sorted(fetched_folder().glob("*.webp"))
    if not files:
        raise DataError(
            f"the photographs of gcompris-qt-data are not in {fetched_folder()}\n"
            "  fetch them (44 MB, no root): reprkit vision fetch photos"
        )
    for file in files:
        try:
            with Image.open(file) as image:
                yield file.stem, image.convert("RGB")
        except OSError as error:
            raise DataError(
                f"{file} cannot be read as an image: {error}\n  fetch again: reprkit vision fetch photos"
            ) from error


def _downscale(photo: Image.Image, side: int) -> np.ndarray:
    """The photograph (h w 3) with ``side`` pixels on its shorter side, uint8; a smaller one is not enlarged."""
    factor = side / min(photo.size)
    if factor < 1:
        size = (max(side, round(photo.width * factor)), max(side, round(photo.height * factor)))
        photo = photo.resize(size, Image.Resampling.BOX if factor < 0.25 else Image.Resampling.LANCZOS)
    return np.asarray(photo.convert("RGB"))


def _cut_crops(
    pixels: np.ndarray, size: int, count: int, stride: int | None, generator: np.random.Generator
) -> np.ndarray:
    """Crops (k size size 3) of one photograph."""
    rows, columns = pixels.shape[0] - size + 1, pixels.shape[1] - size + 1
    if stride is not None:
        corners = [(row, column) for row in range(0, rows, stride) for column in range(0, columns, stride)]
    else:
        random_corners = generator.integers(0, (rows, columns), (count, 2))
        corners = [(int(row), int(column)) for row, column in random_corners]
    return np.stack([pixels[row : row + size, column : column + size] for row, column in corners])
