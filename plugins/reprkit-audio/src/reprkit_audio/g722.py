"""Decoder of G.722, a wide-band telephone codec that Debian's Asterisk packages use and soundfile does not read."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit import ReprkitError

RATE = 16000  # Hz
_BITS = 64000  # per second: the mode of files without a header


def decode(content: bytes) -> Float[Tensor, " samples"]:
    """Decode G.722 at 64 kbit/s to a waveform (samples,), float32 in [-1, 1] at 16 kHz: two samples per byte.

    The decoder is the package G722 (libg722, public domain), bit-exact to ITU-T G.722.

    Raises:
        ReprkitError: the package is not installed.
    """
    try:
        from G722 import G722
    except ImportError as error:
        raise ReprkitError(
            "reading G.722 needs the package G722: pip install G722 (or reprkit-audio[data])"
        ) from error
    values = np.array(G722(RATE, _BITS).decode(content), np.float32)
    return torch.from_numpy(values / 32768)
