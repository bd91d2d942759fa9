"""Clips and utterances: recordings with their speaker and, if known, their text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from reprkit.data import sound
from reprkit.errors import DataError, nearest
from reprkit_audio.waveforms import is_silent, limit_band, set_level, trim_silence


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One recording of one speaker, not yet read.

    Attributes:
        path: the sound file.
        speaker: name.
        text: the transcript; None if unknown.
        key: identifies the text: clips with the same key say the same, in any voice or language; None if unknown.
        language: such as "en"; None if unknown.
        start: second of the file at which it begins.
        stop: second of the file at which it ends; None: the end of the file.
        loudness: active level that the waveform is scaled to, dB of full scale; None: as recorded.
        band: highest frequency that is kept, Hz; None: all.
    """

    path: Path
    speaker: str
    text: str | None = None
    key: str | None = None
    language: str | None = None
    start: float = 0.0
    stop: float | None = None
    loudness: float | None = None
    band: float | None = None

    @property
    def name(self) -> str:
        """Name for messages: its path, and where in the file it begins."""
        return str(self.path) + (f" (from second {self.start:g})" if self.start else "")

    def wave(self, rate: int, *, trim: bool) -> Float[Tensor, " samples"]:
        """Read the waveform (samples,), without the silence at the ends if ``trim``.

        Raises:
            DataError: it cannot be read, or is silent.
        """
        whole = sound.read(self.path, rate, start=self.start, stop=self.stop)
        if self.band is not None and not is_silent(whole):
            whole = limit_band(whole, rate, self.band)
        if self.loudness is not None and not is_silent(whole):
            whole = set_level(whole, rate, self.loudness)
        trimmed = trim_silence(whole, rate)  # raises on digital silence, also without ``trim``
        return trimmed if trim else whole


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """A clip with its waveform.

    Attributes:
        path: the sound file.
        speaker: name.
        label: the speaker's number in the data set.
        text: the transcript, or None.
        key: identifies the text across speakers and languages, or None.
        language: or None.
        wave: the waveform (samples,), float32 in [-1, 1], trimmed if the data set is.
        rate: sampling rate in Hz.
    """

    path: Path
    speaker: str
    label: int
    text: str | None
    key: str | None
    language: str | None
    wave: Float[Tensor, " samples"]
    rate: int


def split_clip(clip: Clip, seconds: float) -> list[Clip]:
    """Split a clip whose file is longer than ``seconds`` into pieces of equal length, none longer.

    Raises:
        DataError: its file cannot be read.
    """
    total = sound.duration(clip.path)
    if total <= seconds:
        return [clip]
    count = int(-(-total // seconds))
    ends = [total * number / count for number in range(count + 1)]
    # The text belongs to all pieces together, so no single piece has one.
    return [
        replace(clip, start=ends[at], stop=ends[at + 1] if at + 1 < count else None, text=None, key=None)
        for at in range(count)
    ]


def select_clips(clips: Iterable[Clip], speakers: Iterable[str] | None, limit: int | None) -> list[Clip]:
    """Select clips of some speakers (None: all), in order, at most ``limit`` of each, evenly spaced.

    Raises:
        DataError: a speaker without clips.
    """
    by_speaker: dict[str, list[Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    wanted = check_speakers(speakers, by_speaker, "speakers") if speakers is not None else list(by_speaker)
    selected = []
    for speaker in sorted(set(wanted)):
        mine = by_speaker[speaker]
        count = len(mine) if limit is None else min(limit, len(mine))
        selected += [mine[number * len(mine) // count] for number in range(count)]
    return selected


def check_speakers(names: Iterable[str] | str, known: Iterable[str], option: str) -> list[str]:
    """Check one or more speaker names, and return them as a list.

    Raises:
        DataError: an unknown name.
    """
    wanted, available = [names] if isinstance(names, str) else list(names), sorted(known)
    for name in wanted:
        if name not in available:
            shown = ", ".join(available[:30]) + (
                f", ... ({len(available)} in all)" if len(available) > 30 else ""
            )
            raise DataError(
                f"{option}: no speaker {name!r}.{nearest(str(name), available)}\n  known: {shown}"
            )
    return wanted
