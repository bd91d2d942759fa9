"""Long sounds a window at a time: overlapping windows of pieces, and windows joined where nobody hears it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_FADE = 0.02  # seconds

Wave = Float[Tensor, " samples"]


def windows(pieces: Iterable[Wave], length: int, overlap: int) -> Iterator[tuple[Wave, bool]]:
    """Windows of ``length`` samples, each beginning ``overlap`` before the end of the one before; and whether it is the last.

    The last one is longer than ``overlap`` where there are several, and at most ``length + overlap``.
    """
    held: list[Wave] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        while count > length + overlap:
            joined_ = torch.cat(held)
            yield joined_[:length], False
            held = [joined_[length - overlap :]]
            count = len(held[0])
    yield torch.cat(held), True


def crossfade(one: Wave, two: Wave, rate: int) -> Wave:
    """Two versions of the same stretch, the first at its beginning and the second at its end.

    They go over into each other within 20 ms where both are quietest: their waves are not in step, and in a pause nobody
    hears it.  Equal power: cosine and sine.
    """
    fade = min(max(1, round(_FADE * rate)), len(one))
    energy = (one.double().square() + two.double().square())[None, None]
    start = int(F.avg_pool1d(energy, fade, stride=1).argmin())
    angle = torch.zeros(len(one))
    angle[start : start + fade] = (torch.arange(fade) + 0.5) / fade * math.pi / 2
    angle[start + fade :] = math.pi / 2
    return one * angle.cos() + two * angle.sin()
