"""Sound files of any length as log-mel frames in pieces, and frames or waveforms in pieces as sound files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from reprkit import Field
from reprkit.data import sound
from reprkit.data.base import Piece
from reprkit.errors import DataError
from reprkit_audio.frontends import FrontEnd, Sound, frontend
from reprkit_audio.frontends.log_mel import LogMel
from reprkit_audio.streaming import crossfade, windows
from reprkit_audio.vocoders import vocoder

WINDOW, OVERLAP = 640, 64  # frames that are synthesized at once, and those that two of them share


def makes_sound(field: Field, output: Field) -> bool:
    """Whether ``output`` is sound of the log-mel frames of ``field``: their waveform (t 1), or frames of the same form."""
    if field.form is None or output.kind != "sequence":
        return False
    front, frames = frontend(field.form), field.shape[0]
    if not isinstance(front, LogMel):
        return False
    if output.form == field.form:
        return front.bands > 1
    return output.channels == 1 and frames is not None and output.shape[0] == frames * front.hop


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
    # Frames on either side of a frame whose samples its transform sees.
    reach = math.ceil((front.n_fft - front.hop) / (2 * front.hop))
    ahead = (steps + margin + reach) * front.hop
    blocks = sound.blocks(path, front.rate)
    kept, ended = torch.zeros(0), False  # samples
    origin = start = 0  # frames where the samples and the piece begin
    while True:
        while not ended and len(kept) < (start - origin) * front.hop + ahead:
            block = next(blocks, None)
            ended = block is None
            kept = kept if block is None else torch.cat([kept, block])
        left = len(kept) - (start - origin) * front.hop
        if left <= 0:
            return
        units = min(left, steps * front.hop)
        own, after = math.ceil(units / front.hop), margin if left > units else 0
        before = min(margin, start)
        first = max(0, start - before - reach)
        last = (start + own + after + reach - origin) * front.hop
        frames = front.analyze(kept[(first - origin) * front.hop : last]).frames
        skip = start - before - first
        yield Piece(frames[skip : skip + before + own + after], before, own, units)
        start += own
        drop = max(0, start - margin - reach - origin)
        kept, origin = kept[drop * front.hop :], origin + drop


def write_sound(path: Path, pieces: Iterable[Tensor], field: Field, units: int) -> None:
    """Write waveforms (t 1), or frames (t c) by Griffin-Lim, as one sound file of ``units`` samples, see ``Dataset.write_pieces``.

    Raises:
        DataError: a suffix that is no format of sound, or fewer samples than ``units``.
    """
    front, left, rest = frontend(field.form or ""), units, iter(pieces)
    begun = list(itertools.islice(rest, 1))
    given = itertools.chain(begun, rest)
    made = _synthesize(given, front) if begun and begun[0].shape[1] > 1 else given
    with sound.open_writer(path, front.rate) as append:
        for piece in made:
            wave = piece.flatten()[:left].clamp(-1, 1)
            left -= append(wave) if len(wave) else 0
        if left:
            raise DataError(f"{path}: the sound ends {left:,} samples before its length")


def _synthesize(pieces: Iterable[Tensor], front: FrontEnd) -> Iterator[Tensor]:
    """Yield the waveform of frames (t c) in windows of some seconds, with crossfades between them."""
    synthesizer = vocoder(form=front)
    tail: Tensor | None = None
    for window, last in windows(pieces, WINDOW, OVERLAP):
        wave = synthesizer.synthesize(Sound(frames=window.float().cpu()), limit=False)
        shared = OVERLAP * front.hop
        if tail is not None:
            wave = torch.cat([crossfade(tail, wave[:shared], front.rate), wave[shared:]])
        yield wave if last else wave[:-shared]
        tail = wave[-shared:]
