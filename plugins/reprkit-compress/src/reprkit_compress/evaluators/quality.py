"""Distortion of a decoded picture of 8 bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

LEAST_SIDE = 176  # pixels that MS-SSIM's five halvings and window of 11 need
_MOST = 100.0  # dB: an exact picture


def psnr(decoded: np.ndarray, original: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of pictures (h w c) of uint8, over all channels, in dB; at most 100."""
    error = float(np.square(decoded.astype(np.float64) - original).mean())
    return _MOST if error == 0 else min(_MOST, 10 * float(np.log10(255**2 / error)))


def ms_ssim(decoded: np.ndarray, original: np.ndarray) -> float | None:
    """Return the multi-scale structural similarity (Wang et al. 2003); None for pictures below 176 pixels a side."""
    if min(original.shape[:2]) < LEAST_SIDE:
        return None
    value = multiscale_structural_similarity_index_measure(
        _batch(decoded), _batch(original), data_range=255.0
    )
    assert isinstance(value, Tensor)
    return float(value)


def _batch(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.astype(np.float32)).movedim(-1, 0).unsqueeze(0)
