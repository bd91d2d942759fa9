"""Pictures in two groups of values, each with its classes: what a split-brain autoencoder reads and predicts."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from reprkit import Dataset, Field, Signature
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit_vision.lab import color_bins, nearest_bins, pool, to_lab

LIGHTNESS_BINS, GRAY_BINS = 100, 16


def divide(data: Dataset, side: int = 4) -> Dataset:
    """Return the pictures of ``data``, field ``x`` (h w c) in [0, 1], divided in two, with its label fields.

    Color pictures (Zhang et al. 2017, arXiv 1611.09842, section 4.1): ``lightness`` (h w 1) in [0, 1] and ``color`` (h w 2), a
    and b over 128; ``both`` (h w 3) in [-1, 1].  Pictures of one channel: ``left`` and ``right`` (h w/2 1), without the middle
    column of an odd width; ``both`` is the picture.  Each group's ``NAME_classes`` are maps of symbols, of the means of ``side`` x
    ``side`` pixels: 100 bins of lightness, 261 of color (``reprkit_vision.lab.color_bins``), 16 of gray.

    Raises:
        DataError: x is no image of one or three channels in [0, 1], or ``side`` does not divide the parts.
    """
    field = data.signature["x"]
    if field.kind != "image" or field.channels not in (1, 3) or field.range != (0.0, 1.0):
        raise DataError(
            f"only images of one or three channels in [0, 1] are divided, and x is {field.kind} {field.shape} {field.range}"
        )
    batch = data.batch(range(len(data)))
    groups, both, bins = _divide_values(batch["x"].numpy())
    height, width = next(iter(groups.values())).shape[1:3]
    if height % side or width % side:
        raise DataError(f"side={side} does not divide parts of {height} x {width} pixels")
    labels = {name: each for name, each in data.signature.items() if each.kind == "label"}
    fields = {
        "both": Field(
            kind="image", shape=both.shape[1:], range=field.range if "left" in groups else (-1.0, 1.0)
        )
    }
    values = {"both": both}
    for name, each in groups.items():
        fields[name] = Field(
            kind="image", shape=each.shape[1:], range=(-1.0 if name == "color" else 0.0, 1.0)
        )
        values[name] = each
        cells = pool(each, side)
        symbols = (
            nearest_bins(128 * cells)
            if name == "color"
            else (cells[..., 0] * bins[name]).clip(max=bins[name] - 1)
        )
        fields[f"{name}_classes"] = Field(kind="map", shape=symbols.shape[1:], vocab=bins[name])
        values[f"{name}_classes"] = symbols.astype(np.int64)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in values.items()}
    return Tensors(
        tensors | {name: batch[name] for name in labels}, Signature(fields | labels), name="two halves"
    )


def group_names(data: Dataset) -> tuple[str, str]:
    """Return the names of the two groups of divided pictures."""
    one, two = (name.removesuffix("_classes") for name in data.signature if name.endswith("_classes"))
    return one, two


def _divide_values(
    x: Float[np.ndarray, "n h w c"],
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, int]]:
    """Return the groups, the whole, and the number of classes of each group."""
    if x.shape[-1] == 1:
        half = x.shape[2] // 2
        return (
            {"left": x[:, :, :half], "right": x[:, :, -half:]},
            x,
            {"left": GRAY_BINS, "right": GRAY_BINS},
        )
    lab = to_lab(x)
    lightness, color = lab[..., :1] / 100, (lab[..., 1:] / 128).clip(-1, 1)
    bins = {"lightness": LIGHTNESS_BINS, "color": len(color_bins())}
    return {"lightness": lightness, "color": color}, np.concatenate([2 * lightness - 1, color], -1), bins
