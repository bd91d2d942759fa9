"""The CIE Lab color space, and colors as classes: bins of the a-b plane that the colors of screens reach."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float, Int

STEP = 10  # side of a bin of a and b, as in the paper


def to_lab(pictures: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w 3"]:
    """Return lightness L in [0, 100], and a and b within [-128, 128], of sRGB pictures in [0, 1]."""
    from skimage.color import rgb2lab

    lab = rgb2lab(pictures).astype(np.float32)
    lab[..., 0] = lab[..., 0].clip(0, 100)
    return lab


@functools.cache
def color_bins() -> Float[np.ndarray, "q 2"]:
    """Return the centers (a, b) of the bins of 10 x 10 that hold a color of sRGB: 261, at any lightness.

    Zhang et al. 2016 (arXiv 1603.08511, section 2.1) count 313, with bins that no color of sRGB is in.
    """
    levels = np.linspace(0, 1, 65)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, 1, -1, 3)
    return np.unique(np.round(to_lab(cube)[0, 0, :, 1:] / STEP), axis=0).astype(np.float32) * STEP


def nearest_bins(color: Float[np.ndarray, "n h w 2"]) -> Int[np.ndarray, "n h w"]:
    """Return the number of the nearest bin of each color (a, b)."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(color_bins()).query(color)[1])


def to_rgb(lab: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w 3"]:
    """Return sRGB pictures in [0, 1]; colors that a screen cannot show are clipped."""
    from skimage.color import lab2rgb

    return lab2rgb(lab.astype(np.float64)).clip(0, 1).astype(np.float32)


def pool(pictures: Float[np.ndarray, "n h w c"], side: int) -> Float[np.ndarray, "n p q c"]:
    """Return the means of squares of ``side`` x ``side`` pixels, which must divide the pictures."""
    n, height, width, channels = pictures.shape
    cells = pictures.reshape(n, height // side, side, width // side, side, channels)
    return cells.mean((2, 4))
