"""Resample audio with a polyphase filter, as a whole or in pieces."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError


def resample(wave: Float[Tensor, " samples"], old: int, new: int) -> Float[Tensor, " resampled"]:
    """Resample a waveform (samples,) from ``old`` to ``new`` Hz with a polyphase filter, as in ``sound.read``.

    Raises:
        DataError: a rate below 1.
    """
    if old < 1 or new < 1:
        raise DataError(f"sampling rates are at least 1 Hz, not {old} and {new}")
    shared = math.gcd(old, new)
    if old == new:
        return wave
    values = polyphase(wave.detach().cpu().float().numpy(), new // shared, old // shared)
    return torch.from_numpy(values)


def resample_pieces(pieces: Iterator[np.ndarray], up: int, down: int) -> Iterator[np.ndarray]:
    """Resample pieces of one waveform; each is filtered with the context that the filter needs, so there are no seams."""
    if up == down:
        yield from pieces
        return
    context = (10 * max(up, down) // up + down) // down * down  # half the filter's length, in whole periods
    buffer, done = np.empty(0, np.float32), 0  # the first `done` samples of the buffer were yielded already
    for piece in pieces:
        buffer = np.concatenate([buffer, piece])
        ready = (len(buffer) - done - context) // down * down  # samples whose right context is there
        if ready <= 0:
            continue
        resampled = polyphase(buffer[: done + ready + context], up, down)
        yield resampled[done // down * up : (done + ready) // down * up]
        keep = min(done + ready, context)
        buffer, done = buffer[done + ready - keep :], keep
    if len(buffer) > done:
        yield polyphase(buffer, up, down)[done // down * up :]


def polyphase(wave: np.ndarray, up: int, down: int) -> np.ndarray:
    """Resample a waveform (t,) by the factor ``up / down`` with ``scipy.signal.resample_poly``; float32."""
    from scipy.signal import resample_poly

    return np.asarray(resample_poly(wave, up, down, window=lowpass(max(up, down))), dtype=np.float32)


@functools.lru_cache
def lowpass(factor: int) -> np.ndarray:
    """Return the low-pass filter of ``resample_poly``, which would otherwise design it at every call."""
    from scipy.signal import firwin

    return np.asarray(firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0)))
