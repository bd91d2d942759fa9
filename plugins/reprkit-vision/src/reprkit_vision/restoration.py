"""What needs no training: filters, thresholds and inpainting, as baselines of networks that repair pictures; and PSNR."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor


def psnr(pictures: np.ndarray | Tensor, clean: np.ndarray | Tensor, limit: float = 100.0) -> np.ndarray:
    """Return the PSNR of each picture (n,) in dB, of values in [0, 1] (n h w c), at most ``limit``."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    found, target = (torch.as_tensor(each, dtype=torch.float64) for each in (pictures, clean))
    values = peak_signal_noise_ratio(found.clamp(0, 1), target, 1.0, reduction="none", dim=(1, 2, 3))
    return np.asarray(values.clamp(max=limit))


def median_filter(pictures: Float[np.ndarray, "n h w c"], side: int) -> Float[np.ndarray, "n h w c"]:
    """Return the median of ``side`` x ``side`` pixels around each, of each channel, mirrored at the border."""
    return ndimage.median_filter(pictures, size=(1, side, side, 1), mode="reflect")


def find_marks(
    pictures: Float[np.ndarray, "n h w c"], side: int, threshold: float
) -> Bool[np.ndarray, "n h w"]:
    """Find pixels that may belong to a mark, by a rule: they differ from the median of ``side`` x ``side`` pixels.

    A pixel is found where a channel differs by more than ``threshold``; the found pixels are grown by one on each side.
    """
    found = np.abs(pictures - median_filter(pictures, side)).max(-1) > threshold
    return ndimage.binary_dilation(found, np.ones((1, 3, 3), bool))


def inpaint(
    pictures: Float[np.ndarray, "n h w c"], mask: Bool[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n h w c"]:
    """Fill the pixels of ``mask`` by biharmonic inpainting (Damelin and Hoang 2018), as scikit-image does.

    A picture without other pixels keeps its own.
    """
    from skimage.restoration import inpaint_biharmonic

    filled = pictures.copy()
    for number, (picture, hole) in enumerate(zip(pictures, mask, strict=True)):
        if hole.any() and not hole.all():
            filled[number] = inpaint_biharmonic(picture, hole, channel_axis=-1)
    return filled.clip(0, 1)


def otsu(pages: Float[np.ndarray, "n h w 1"]) -> Float[np.ndarray, "n h w 1"]:
    """Return black and white pages, by one threshold a page (Otsu 1979)."""
    from skimage.filters import threshold_otsu

    return np.stack([(page > threshold_otsu(page)).astype(np.float32) for page in pages])


def adaptive_threshold(
    pages: Float[np.ndarray, "n h w 1"], side: int, offset: float
) -> Float[np.ndarray, "n h w 1"]:
    """Return black and white pages; the threshold is the Gaussian mean of ``side`` pixels less ``offset``."""
    from skimage.filters import threshold_local

    return np.stack(
        [
            (page > threshold_local(page[..., 0], side, offset=offset)[..., None]).astype(np.float32)
            for page in pages
        ]
    )


def non_local_means(pages: Float[np.ndarray, "n h w 1"], strength: float) -> Float[np.ndarray, "n h w 1"]:
    """Return pages denoised by non-local means (Buades et al. 2005) with a cut-off of ``strength`` in gray values."""
    from skimage.restoration import denoise_nl_means

    return np.stack(
        [denoise_nl_means(page[..., 0], 5, 6, h=strength)[..., None].astype(np.float32) for page in pages]
    )
