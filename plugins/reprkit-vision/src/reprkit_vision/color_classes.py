"""Colors as distributions over 313 classes: soft encoding, weights of rare classes, and the annealed mean.

Source: Zhang, Isola and Efros 2016, "Colorful image colorization", arXiv 1603.08511, sections 2.1 to 2.3.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

STEP = 10  # side of a bin of a and b
CLASSES = 313
NEIGHBORS, SIGMA = 5, 5.0  # of the soft encoding
TEMPERATURE = 0.38  # of the annealed mean

# The bins of the paper: for each a from -90 in steps of 10, the lowest and the highest b.  The authors' list is longer than that of
# the bins which a color of sRGB is in (261, reprkit_vision.lab.color_bins), and contains them.
_B_RANGES = (
    (50, 90), (20, 90), (0, 90), (-20, 90), (-30, 100), (-40, 100), (-50, 100), (-50, 100), (-60, 100), (-70, 100),
    (-80, 90), (-80, 90), (-90, 90), (-100, 90), (-100, 80), (-110, 80), (-110, 80), (-110, 70), (-110, 70), (-90, 0),
)  # fmt: skip


@functools.cache
def class_centers() -> Float[np.ndarray, "q 2"]:
    """Return the centers (a, b) of the 313 bins, ordered by a, then b."""
    centers = [
        (a, b)
        for a, (low, high) in zip(range(-90, 101, STEP), _B_RANGES, strict=True)
        for b in range(low, high + 1, STEP)
    ]
    return np.array(centers, np.float32)


def nearest_classes(color: Float[np.ndarray, "*n 2"]) -> Int[np.ndarray, "*n"]:
    """Return the number of the bin whose center is nearest to each color (a, b)."""
    table, low = _lookup()
    cells = np.rint(np.asarray(color) / STEP).astype(np.int64) - low
    cells = cells.clip(0, np.array(table.shape) - 1)
    return table[cells[..., 0], cells[..., 1]]


@functools.cache
def _lookup() -> tuple[Int[np.ndarray, "r s"], int]:
    """The bin of each cell of the a-b plane, of cells without one the bin nearest to their center; and the lowest cell's number."""
    from scipy.spatial import cKDTree

    side = np.arange(-13, 14)
    centers = np.stack(np.meshgrid(side, side, indexing="ij"), -1) * STEP
    return np.asarray(cKDTree(class_centers()).query(centers)[1]), int(side[0])


def soft_encode(
    color: Float[Tensor, "*n 2"], neighbors: int = NEIGHBORS, sigma: float = SIGMA
) -> Float[Tensor, "*n q"]:
    """Return each color (a, b) as a distribution over the bins: Gaussian weights of its nearest ones (section 2.1)."""
    centers = torch.from_numpy(class_centers()).to(color)
    distance = torch.cdist(color.reshape(-1, 2), centers, compute_mode="donot_use_mm_for_euclid_dist")
    distance, nearest = distance.topk(neighbors, largest=False)
    weight = (-distance.square() / (2 * sigma**2)).softmax(-1)
    encoded = torch.zeros(len(weight), len(centers), dtype=weight.dtype, device=weight.device)
    return encoded.scatter_(1, nearest, weight).unflatten(0, color.shape[:-1])


def smooth_prior(counts: Sequence[int], sigma: float = SIGMA) -> Float[np.ndarray, " q"]:
    """Return the share of each bin, smoothed by a Gaussian in the a-b plane, from counts of colors (section 2.2)."""
    centers = class_centers().astype(np.float64)
    kernel = np.exp(-np.square(centers[:, None] - centers).sum(-1) / (2 * sigma**2))
    shares = np.asarray(counts, np.float64) / max(1, sum(counts))
    return kernel / kernel.sum(0) @ shares


def class_weights(
    counts: Sequence[int], uniform: float = 0.5, sigma: float = SIGMA
) -> Float[np.ndarray, " q"]:
    """Return the weight of each bin: the inverse of the smoothed prior mixed with a uniform one (equation 4), of mean 1.

    Args:
        counts: how often each bin occurs.
        uniform: share of the uniform distribution, lambda in the paper; 1 weighs all colors alike.
        sigma: of the Gaussian that smooths the prior, in units of a and b.
    """
    prior = smooth_prior(counts, sigma)
    mixed = (1 - uniform) * prior + uniform / len(prior)
    weight = np.divide(1, mixed, out=np.zeros_like(mixed), where=mixed > 0)
    return weight / (prior @ weight)


def annealed_mean(logits: Float[Tensor, "*n q"], temperature: float = TEMPERATURE) -> Float[Tensor, "*n 2"]:
    """Return the mean color (a, b) of distributions sharpened by a temperature (equation 5): 1 is the mean, near 0 the mode."""
    share = (logits.float().log_softmax(-1) / temperature).softmax(-1)
    return share @ torch.from_numpy(class_centers()).to(share)
