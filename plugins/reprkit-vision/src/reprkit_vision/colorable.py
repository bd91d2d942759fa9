"""Pictures to be colored: lightness, and the colors of small squares with their classes."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from reprkit import Dataset, Field, Signature
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit_vision.color_classes import CLASSES, nearest_classes
from reprkit_vision.lab import pool, to_lab

_BLOCK = 512  # pictures that are converted at a time


def colorable(
    *parts: Dataset, size: int = 32, side: int = 4, mirror: bool = False, pictures: bool = False
) -> Dataset:
    """Return color pictures, field ``x`` (h w 3) in [0, 1], as what a colorization model reads and predicts.

    Fields: ``lightness`` (size size 1), L over 100; ``color`` (size/side size/side 2), a and b over 128, means of squares of
    ``side`` x ``side`` pixels; ``color_classes``, a map of the 313 classes of ``reprkit_vision.color_classes``, counted; label
    fields where there is one part and no mirrored picture.

    Args:
        parts: data sets, one after the other; their pictures may differ in size, which ``size`` must divide.
        size: side of the pictures that are read, in pixels; larger ones are averaged.
        side: pixels of a side of the squares.
        mirror: add the mirrored pictures.
        pictures: keep the pictures as they are as field ``x``.

    Raises:
        DataError: x is no color image in [0, 1], no square of a multiple of ``size``, or ``side`` does not divide ``size``.
    """
    if size % side:
        raise DataError(f"side={side} does not divide size={size}")
    found: dict[str, list[np.ndarray]] = {"lightness": [], "color": [], "x": []}
    for part in parts:
        _check(part, size)
        if pictures and part.signature["x"].shape != parts[0].signature["x"].shape:
            raise DataError("pictures=True keeps pictures of one size only")
        for batch in part.batches(_BLOCK):
            x = batch["x"].numpy()
            for picture in (x, x[:, :, ::-1]) if mirror else (x,):
                lightness, color = _convert(picture, size, side)
                found["lightness"].append(lightness)
                found["color"].append(color)
                if pictures:
                    found["x"].append(picture)
    values = {name: np.concatenate(each) for name, each in found.items() if each}
    values["color_classes"] = nearest_classes(128 * values["color"])
    cells = size // side
    fields = {
        "lightness": Field(kind="image", shape=(size, size, 1), range=(0.0, 1.0)),
        "color": Field(kind="image", shape=(cells, cells, 2), range=(-1.0, 1.0)),
        "color_classes": Field(kind="map", shape=(cells, cells), vocab=CLASSES),
    }
    if pictures:
        fields["x"] = Field(kind="image", shape=values["x"].shape[1:], range=(0.0, 1.0))
    tensors = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in values.items()}
    if len(parts) == 1 and not mirror:
        labels = {name: each for name, each in parts[0].signature.items() if each.kind == "label"}
        batch = parts[0].batch(range(len(parts[0]))) if labels else {}
        fields |= labels
        tensors |= {name: batch[name] for name in labels}
    return Tensors(tensors, Signature(fields), name="pictures to color").count_symbols("color_classes")


def _check(data: Dataset, size: int) -> None:
    field = data.signature["x"]
    if field.kind != "image" or field.channels != 3 or field.range != (0.0, 1.0):
        raise DataError(
            f"only color images in [0, 1] can be colored, and x of {data.name} is {field.kind} {field.shape} {field.range}"
        )
    height, width = (int(each or 0) for each in field.shape[:2])
    if height != width or height % size:
        raise DataError(
            f"pictures of {height} x {width} pixels are no squares of a multiple of size={size}: give the data set size={size} or "
            f"{2 * size}, or another size="
        )


def _convert(x: Float[np.ndarray, "n h w 3"], size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The lightness of pictures of ``size``, and the colors of their squares."""
    lab = to_lab(pool(x, x.shape[1] // size))
    return lab[..., :1] / 100, (pool(lab[..., 1:], side) / 128).clip(-1, 1)
