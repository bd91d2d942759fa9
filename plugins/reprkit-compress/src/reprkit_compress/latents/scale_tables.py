"""Integer tables of rounded Gaussians: one for each of 64 scales and 8 fractions of the mean."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from reprkit.utils.symbol_coder import to_frequencies

SCALES, FRACTIONS = 64, 8
SMALLEST, LARGEST = 0.11, 64.0  # logarithmically spaced between, as in CompressAI
STEP = math.log(LARGEST / SMALLEST) / (SCALES - 1)
HALF = 63  # a table holds the differences -HALF to HALF from the mean's whole part, and the escape after them
ESCAPE = 2 * HALF + 1


def scale_of(index: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return the scale of an index from 0 to 63, between the whole numbers too."""
    return SMALLEST * torch.exp(STEP * index)


def half_width(scale: int) -> int:
    """Return the largest difference in the tables of a scale's index; larger ones are escaped."""
    return min(HALF, math.ceil(5 * SMALLEST * math.exp(STEP * scale)) + 1)


def gaussian_tables() -> Int[Tensor, "t v"]:
    """Return a new copy of the tables (512 128), each of sum 2^16, zero outside of its half width.

    They are computed with floats, once, and kept in the checkpoint: another machine may compute other tables.
    """
    return _computed_tables().clone()


@functools.cache
def _computed_tables() -> Int[Tensor, "t v"]:
    tables = torch.zeros(SCALES * FRACTIONS, ESCAPE + 1, dtype=torch.int32)
    for scale in range(SCALES):
        half = half_width(scale)
        width = SMALLEST * math.exp(STEP * scale)
        edges = torch.arange(-half, half + 2, dtype=torch.float64) - 0.5
        for fraction in range(FRACTIONS):
            below = torch.special.ndtr((edges - (fraction - FRACTIONS // 2) / FRACTIONS) / width)
            mass = torch.cat([below.diff(), 1 - below[-1:] + below[:1]])
            counts = (mass * 2**30).round().long().numpy()
            row = torch.from_numpy(to_frequencies(counts)).int()
            place = scale * FRACTIONS + fraction
            tables[place, HALF - half : HALF + half + 1] = row[:-1]
            tables[place, ESCAPE] = row[-1]
    return tables


def compact(tables: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return one table without the zeros outside of its half width; its last entry is the escape."""
    half = half_width(number // FRACTIONS)
    return np.append(tables[number, HALF - half : HALF + half + 1], tables[number, ESCAPE])
