"""What a corpus consists of: recordings with their speaker, and texts where they are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError, nearest
from reprkit_audio import sound


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One recording of one speaker, not read yet.

    Attributes:
        path: the sound file.
        speaker: name.
        text: what is said, as it was written down; None where nobody did.
        key: names the text: clips of one key say the same, in whatever voice or language; None where that is not known.
        language: such as "en"; None where it is not known.
        start: seconds of the file before it.
        stop: second of the file at which it ends; None: with the file.
    """

    path: Path
    speaker: str
    text: str | None = None
    key: str | None = None
    language: str | None = None
    start: float = 0.0
    stop: float | None = None

    @property
    def name(self) -> str:
        """For messages: its path, and where in the file it begins."""
        return str(self.path) + (f" (from second {self.start:g})" if self.start else "")

    def wave(self, rate: int, *, trim: bool) -> Float[Tensor, " samples"]:
        """Its sound (samples,), without the silence at the ends if ``trim``.

        Raises:
            DataError: it cannot be read, or is nothing but silence.
        """
        read = sound.read(self.path, rate, start=self.start, stop=self.stop)
        kept = sound.trim_silence(read, rate)  # digital silence has no frames worth learning, trimmed or not
        return kept if trim else read


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """A clip with its sound.

    Attributes:
        path: the sound file.
        speaker: name.
        label: the speaker's number in the data set.
        text: what is said, or None.
        key: names the text, over speakers and languages, or None.
        language: or None.
        wave: the sound (samples,), float32 in [-1, 1], trimmed as the data set was.
        rate: samples a second, in Hz.
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
    """The clip, or where its file is longer than ``seconds``, pieces of equal length, none longer.

    Raises:
        DataError: its file cannot be read.
    """
    whole = sound.duration(clip.path)
    if whole <= seconds:
        return [clip]
    count = int(-(-whole // seconds))
    ends = [whole * number / count for number in range(count + 1)]
    # One text is of all pieces together, so none has it.
    return [
        replace(clip, start=ends[at], stop=ends[at + 1] if at + 1 < count else None, text=None, key=None)
        for at in range(count)
    ]


def select_clips(clips: Iterable[Clip], speakers: Iterable[str] | None, most: int | None) -> list[Clip]:
    """The clips of some speakers (None: of all), in their order, at most so many of each, spread over all they have.

    Raises:
        DataError: a speaker of whom there is no clip.
    """
    by_speaker: dict[str, list[Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    wanted = check_speakers(speakers, by_speaker, "speakers") if speakers is not None else list(by_speaker)
    kept = []
    for speaker in sorted(set(wanted)):
        mine = by_speaker[speaker]
        few = len(mine) if most is None else min(most, len(mine))
        kept += [mine[number * len(mine) // few] for number in range(few)]
    return kept


def check_speakers(names: Iterable[str] | str, known: Iterable[str], option: str) -> list[str]:
    """The names, one or several.

    Raises:
        DataError: one that is not known.
    """
    wanted, there = [names] if isinstance(names, str) else list(names), sorted(known)
    for name in wanted:
        if name not in there:
            shown = ", ".join(there[:30]) + (f", ... ({len(there)} in all)" if len(there) > 30 else "")
            raise DataError(f"{option}: no speaker {name!r}.{nearest(str(name), there)}\n  known: {shown}")
    return wanted
