"""Long sounds window by window: overlapping windows, and inaudible crossfades between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_FADE = 0.02  # seconds

Wave = Float[Tensor, " samples"]
Steps = Float[Tensor, "n *c"]


def windows(pieces: Iterable[Steps], length: int, overlap: int) -> Iterator[tuple[Steps, bool]]:
    """Yield windows of ``length`` steps (samples or frames) that overlap by ``overlap`` steps, each with whether it is the last.

    If there are several, the last is longer than ``overlap``; it has at most ``length + overlap`` steps.
    """
    buffer: list[Steps] = []
    count = 0
    for piece in pieces:
        buffer.append(piece)
        count += len(piece)
        while count > length + overlap:
            joined = torch.cat(buffer)
            yield joined[:length], False
            buffer = [joined[length - overlap :]]
            count = len(buffer[0])
    yield torch.cat(buffer), True


def crossfade(one: Wave, two: Wave, rate: int) -> Wave:
    """Crossfade two versions of the same segment, from the first to the second.

    The fade takes 20 ms where both are quietest: their phases differ, which is inaudible in a pause.  Equal power: cosine
    and sine.
    """
    fade = min(max(1, round(_FADE * rate)), len(one))
    energy = (one.double().square() + two.double().square())[None, None]
    start = int(F.avg_pool1d(energy, fade, stride=1).argmin())
    angle = torch.zeros(len(one))
    angle[start : start + fade] = (torch.arange(fade) + 0.5) / fade * math.pi / 2
    angle[start + fade :] = math.pi / 2
    return one * angle.cos() + two * angle.sin()
