"""Mel spectrograms of waveforms as images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.data.padding import pad
from reprkit_audio.frontends.log_mel import LogMel


def mel_spectrograms(front: LogMel, waves: Sequence[Tensor]) -> Float[np.ndarray, "n c t 1"]:
    """Mel spectrograms, dB below each one's loudest, at least -80; low bands at the bottom, padded with silence to one length."""
    levels = [front.decibels(front.analyze(wave).frames) for wave in pad(waves, "waveforms")[0]]
    images = [(level - level.max()).clamp(min=-80).T.flip(0) for level in levels]
    return torch.stack(images).unsqueeze(-1).numpy()
