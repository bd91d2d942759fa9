"""Spread: what is decoded varies less than speech, so its envelope gets a voice's own deviation back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit_audio.frontends import FrontEnd, Sound

_MAX_RATIO = 2.0  # a short utterance's deviation is a poor estimate: never stretch or press more than this
_MIN_VOICED = 20  # voiced frames that tell a deviation at all


def envelope_deviation(front: FrontEnd, *sounds: Sound) -> Float[Tensor, " c"] | None:
    """Standard deviation of the envelope's coefficients (c) over the voiced frames of one or more utterances.

    Pauses say nothing of a voice, so frames without pitch are left out.  None where the front end has no envelope apart from the
    level or tells no pitch (``log-mel``), and where fewer than 20 frames are voiced.
    """
    known = [(each.frames, each.pitch) for each in sounds if each.pitch is not None]
    if front.shape is None or not known:
        return None
    voiced = torch.cat([frames[:, front.shape][pitch > 0] for frames, pitch in known])
    return voiced.std(0, correction=0) if len(voiced) >= _MIN_VOICED else None


def restore_deviation(
    front: FrontEnd, made: Sound, wanted: Float[Tensor, " c"] | None
) -> Float[Tensor, "t c"]:
    """A sound's frames with the wanted deviation of the envelope, and its own mean and level.

    The likeliest frames are means over all that could have been said, and too smooth: the voice is dull and nobody's.
    "Global variance" is what a voice's own speech has and they have not (Toda et al. 2007, IEEE Transactions on Audio, Speech
    and Language Processing 15(8)), here by linear scaling, by a factor of 2 at most.  Where either deviation is not known the
    frames are left as they are.
    """
    own = envelope_deviation(front, made)
    if own is None or wanted is None or front.shape is None or made.pitch is None:
        return made.frames
    factor = (wanted / own.clamp(min=1e-6)).clamp(1 / _MAX_RATIO, _MAX_RATIO)
    frames = made.frames.clone()
    mean = frames[:, front.shape][made.pitch > 0].mean(0)
    frames[:, front.shape] = mean + (frames[:, front.shape] - mean) * factor
    return frames
