"""Decodes G.722, the telephone's wide-band code: Debian's Asterisk packages come in it, and soundfile does not read it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit import ReprkitError

RATE = 16000  # Hz
_BITS = 64000  # a second: the mode that files without a head are in


def decode(content: bytes) -> Float[Tensor, " samples"]:
    """Bytes of G.722 at 64 kbit/s as a wave (samples,), float32 in [-1, 1] at 16 kHz: two samples a byte.

    The decoder is the package G722 (libg722, public domain), bit-exact to ITU-T G.722.

    Raises:
        ReprkitError: the package is not installed.
    """
    try:
        from G722 import G722
    except ImportError as error:
        raise ReprkitError(
            "sounds in G.722 need the package G722: pip install G722 (or reprkit-audio[data])"
        ) from error
    values = np.array(G722(RATE, _BITS).decode(content), np.float32)
    return torch.from_numpy(values / 32768)
