"""Copies of speech by Opus, the standard codec beside learned ones, as libsndfile writes it."""

from __future__ import annotations

import io

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.data import sound
from reprkit.errors import ReprkitError


def opus_copy(wave: Float[Tensor, " samples"], level: float = 1.0) -> tuple[Float[Tensor, " samples"], int]:
    """Return a waveform's copy by Opus, and the bytes of its packets.

    Ogg's pages of headers are not counted, since they would be 0.9 kB of a clip of a few kB.

    Args:
        wave: of 16 kHz.
        level: libsndfile's compression level, from 0 (256 kbit/s) to 1 (6 kbit/s, Opus' lowest rate).

    Raises:
        ReprkitError: this libsndfile does not write Opus (it needs soundfile 0.13 and libsndfile 1.1).
    """
    import soundfile

    file = io.BytesIO()
    try:
        with soundfile.SoundFile(
            file, "w", sound.RATE, 1, "OPUS", format="OGG", compression_level=level
        ) as opened:
            opened.write(wave.cpu().numpy())
    except (RuntimeError, TypeError, ValueError) as error:
        raise ReprkitError(f"libsndfile does not write Opus: {error}") from error
    content, pages, place = file.getvalue(), list[int](), 0
    # A page: 26 bytes, the number of its segments, their sizes, and the segments.
    while place < len(content):
        sizes = content[place + 27 : place + 27 + content[place + 26]]
        pages.append(sum(sizes))
        place += 27 + len(sizes) + pages[-1]
    file.seek(0)
    copy = sound.read(file)[: len(wave)]
    return torch.nn.functional.pad(copy, (0, len(wave) - len(copy))), sum(pages[2:])
