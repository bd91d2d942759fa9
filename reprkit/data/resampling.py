"""Another rate: a polyphase filter, for a whole wave or piece after piece."""

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
    """A wave (samples,) of ``old`` Hz at ``new`` Hz: a polyphase filter, as in ``sound.read``.

    Raises:
        DataError: a rate below 1.
    """
    if old < 1 or new < 1:
        raise DataError(f"rates are samples a second, from 1, not {old} and {new}")
    shared = math.gcd(old, new)
    if old == new:
        return wave
    made = polyphase(wave.detach().cpu().float().numpy(), new // shared, old // shared)
    return torch.from_numpy(made)


def resample_pieces(pieces: Iterator[np.ndarray], up: int, down: int) -> Iterator[np.ndarray]:
    """Pieces at another rate, each with as much of its neighbours as the filter sees: no seams."""
    if up == down:
        yield from pieces
        return
    room = (10 * max(up, down) // up + down) // down * down  # the filter's half length, in whole periods
    held, before = np.empty(0, np.float32), 0  # `before` samples of it were given already
    for piece in pieces:
        held = np.concatenate([held, piece])
        ready = (len(held) - before - room) // down * down  # what has its right neighbours
        if ready <= 0:
            continue
        made = polyphase(held[: before + ready + room], up, down)
        yield made[before // down * up : (before + ready) // down * up]
        keep = min(before + ready, room)
        held, before = held[before + ready - keep :], keep
    if len(held) > before:
        yield polyphase(held, up, down)[before // down * up :]


def polyphase(wave: np.ndarray, up: int, down: int) -> np.ndarray:
    """A wave (t,) at ``up / down`` times its rate: ``scipy.signal.resample_poly``, float32."""
    from scipy.signal import resample_poly

    return np.asarray(resample_poly(wave, up, down, window=lowpass(max(up, down))), dtype=np.float32)


@functools.lru_cache
def lowpass(factor: int) -> np.ndarray:
    """The filter that ``resample_poly`` would design anew at every call."""
    from scipy.signal import firwin

    return np.asarray(firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0)))
