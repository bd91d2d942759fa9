"""Global variance: give decoded envelopes, which vary less than speech, a voice's own standard deviation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit_audio.frontends import FrontEnd, Sound

_MAX_RATIO = 2.0  # bound of the scaling, since a short utterance's deviation is a poor estimate
_MIN_VOICED = 20  # fewer voiced frames give no estimate


def envelope_deviation(front: FrontEnd, *sounds: Sound) -> Float[Tensor, " c"] | None:
    """Standard deviation of the envelope's coefficients (c) over the voiced frames of one or more utterances.

    Pauses carry no information on a voice, so unvoiced frames are left out.  None where the front end does not separate the
    envelope from the level or extracts no pitch (``log-mel``), and where fewer than 20 frames are voiced.
    """
    pitched = [(each.frames, each.pitch) for each in sounds if each.pitch is not None]
    if front.shape is None or not pitched:
        return None
    voiced = torch.cat([frames[:, front.shape][pitch > 0] for frames, pitch in pitched])
    return voiced.std(0, correction=0) if len(voiced) >= _MIN_VOICED else None


def restore_deviation(
    front: FrontEnd, decoded: Sound, target: Float[Tensor, " c"] | None
) -> Float[Tensor, "t c"]:
    """Scale a sound's envelope to the target deviation; mean and level stay.

    The most likely frames are conditional means and therefore too smooth: the voice sounds muffled and impersonal.  They lack
    the "global variance" of natural speech (Toda et al. 2007, IEEE Transactions on Audio, Speech
    and Language Processing 15(8)), here restored by linear scaling, by a factor of 2 at most.  If either deviation is None
    the frames are returned unchanged.
    """
    own = envelope_deviation(front, decoded)
    if own is None or target is None or front.shape is None or decoded.pitch is None:
        return decoded.frames
    factor = (target / own.clamp(min=1e-6)).clamp(1 / _MAX_RATIO, _MAX_RATIO)
    frames = decoded.frames.clone()
    mean = frames[:, front.shape][decoded.pitch > 0].mean(0)
    frames[:, front.shape] = mean + (frames[:, front.shape] - mean) * factor
    return frames
