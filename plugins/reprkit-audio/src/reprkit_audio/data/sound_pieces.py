"""Sound files of any length as log-mel frames in pieces, and waveforms in pieces as sound files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from reprkit import Field
from reprkit.data import sound
from reprkit.data.base import Piece
from reprkit.errors import DataError
from reprkit_audio.frontends import frontend
from reprkit_audio.frontends.log_mel import LogMel


def makes_waveforms(field: Field, output: Field) -> bool:
    """Whether ``output`` is the waveform (t 1) of the log-mel frames of ``field``."""
    front = None if field.form is None else frontend(field.form)
    frames, samples = field.shape[0], output.shape[0] if output.kind == "sequence" else None
    return (
        isinstance(front, LogMel)
        and output.kind == "sequence"
        and output.channels == 1
        and frames is not None
        and samples == frames * front.hop
    )


def frame_pieces(path: Path, field: Field, steps: int | None, margin: int) -> Iterator[Piece]:
    """Yield the frames of a sound file, see ``Dataset.read_pieces``; they equal those of the whole file.

    Raises:
        DataError: the file cannot be read, or the front end is not log-mel.
    """
    front = frontend(field.form or "")
    if not isinstance(front, LogMel):
        raise DataError(f"sound is read in pieces as log-mel frames, not as {field.form!r}")
    if steps is None:
        wave = sound.read(path, front.rate)
        frames = front.analyze(wave).frames
        yield Piece(frames, 0, len(frames), len(wave))
        return
    reach = -(
        -(front.n_fft - front.hop) // (2 * front.hop)
    )  # frames at either end that a transform sees beyond its own
    ahead = (steps + margin + reach) * front.hop
    blocks = sound.blocks(path, front.rate)
    kept, origin, start, ended = (
        torch.zeros(0),
        0,
        0,
        False,
    )  # samples, and the frames where they and the piece begin
    while True:
        while not ended and len(kept) < (start - origin) * front.hop + ahead:
            block = next(blocks, None)
            ended = block is None
            kept = kept if block is None else torch.cat([kept, block])
        left = len(kept) - (start - origin) * front.hop
        if left <= 0:
            return
        units = min(left, steps * front.hop)
        own, after = -(-units // front.hop), margin if left > units else 0
        before = min(margin, start)
        first = max(0, start - before - reach)
        last = (start + own + after + reach - origin) * front.hop
        frames = front.analyze(kept[(first - origin) * front.hop : last]).frames
        skip = start - before - first
        yield Piece(frames[skip : skip + before + own + after], before, own, units)
        start += own
        drop = max(0, start - margin - reach - origin)
        kept, origin = kept[drop * front.hop :], origin + drop


def write_waveforms(path: Path, pieces: Iterable[Tensor], field: Field, units: int) -> None:
    """Write waveforms (t 1) as one sound file of ``units`` samples, see ``Dataset.write_pieces``.

    Raises:
        DataError: a suffix that is no format of sound, or fewer samples than ``units``.
    """
    left = units
    with sound.open_writer(path, frontend(field.form or "").rate) as append:
        for piece in pieces:
            wave = piece.flatten()[:left].clamp(-1, 1)
            left -= append(wave) if len(wave) else 0
        if left:
            raise DataError(f"{path}: the sound ends {left:,} samples before its length")
