"""The same sentences in several synthetic voices, with their phones: conversion has a true target, codes have a truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import MinLen
from jaxtyping import Int
from torch import Tensor

from reprkit.errors import DataError
from reprkit.interfaces import require
from reprkit.registry.constraints import Count
from reprkit.utils.cache import cache_folder, keep
from reprkit_audio import sound
from reprkit_audio.data.clips import Clip
from reprkit_audio.data.corpus import Corpus, Track
from reprkit_audio.data.engines import Phones, engine_of, synthesize
from reprkit_audio.data.sample_speech import english_texts
from reprkit_audio.frontends import frontend as front_end

_VERSION = 1  # of what is kept


class ParallelSpeech(Corpus):
    """Sentences spoken by each of several synthesisers' voices; made at first use, then kept in the cache.

    Voices: "rms", "slt", "awb", "kal16" of flite, "ked" of festival, and "espeak-VARIANT" of espeak-ng ("espeak-f2"), those that
    are installed.  Clips of one key say the same.

    Fields: ``x`` sequence (frames c), how it was made in ``form``; ``speaker`` label (names: ``speakers``); where all voices tell
    it (flite, festival) ``phone`` tokens (frames), the phone in the middle of each frame, whose names are
    ``facts["symbols"]["phone"]``.  ``split`` divides by sentence.  Silence is not cut off: phones would move.

    Args:
        voices: at least one; they are the speakers.
        sentences: how many of the 300 and more English sentences that come with the plugin; or the sentences.
        frontend: what makes the frames: "world", "log-mel", with options.
        frames: length of a window; None takes utterances whole, of varying length.
        stride: frames from one window to the next; None: ``frames``.
        speakers_held_out: these are no part of the set; ``unseen`` is a data set of them.

    Raises:
        DataError: a voice that there is not, or whose program is not installed.
        PartArgumentError: a setting out of its range.
    """

    def __init__(
        self,
        voices: str | Annotated[tuple[str, ...], MinLen(1)] = ("rms", "slt", "awb", "kal16"),
        *,
        sentences: Count | Annotated[tuple[Annotated[str, MinLen(1)], ...], MinLen(1)] = 150,
        frontend: str = "world",
        frames: Count | None = 128,
        stride: Count | None = None,
        speakers_held_out: str | tuple[str, ...] = (),
    ) -> None:
        texts = _choose_texts(sentences)
        wanted = [voices] if isinstance(voices, str) else list(dict.fromkeys(voices))
        for voice in wanted:
            engine_of(voice)  # refuses an unknown one before anything is spoken
        made = [_load_or_synthesize(voice, text) for voice in wanted for text in texts]
        told = {clip.path: phones for clip, phones in made}
        symbols = sorted({phone for phones in told.values() for phone, _ in phones or ()})
        tracks: dict[str, Track] = {}
        if all(phones is not None for phones in told.values()):
            period = front_end(frontend).hop / front_end(frontend).rate
            place = {phone: number for number, phone in enumerate(symbols)}

            def track(clip: Clip, frames: int) -> Int[Tensor, " t"]:
                return phones_at_frames(told[clip.path] or [], frames, period, place)

            tracks["phone"] = (track, symbols)
        super().__init__(
            [clip for clip, _ in made],
            "parallel-speech",
            frontend=frontend,
            frames=frames,
            stride=stride,
            trim=False,
            speakers_held_out=speakers_held_out,
            tracks=tracks,
            facts={"symbols": {"phone": symbols}} if tracks else {},
        )


def phones_at_frames(phones: Phones, frames: int, period: float, place: dict[str, int]) -> Int[Tensor, " t"]:
    """The number of the phone at each frame's centre (t,), frames ``period`` seconds apart, the first at 0; the last one stays."""
    ends = torch.tensor([end for _, end in phones], dtype=torch.float64)
    numbers = torch.tensor([place[phone] for phone, _ in phones])
    centres = torch.arange(frames, dtype=torch.float64) * period
    return numbers[torch.searchsorted(ends, centres, right=True).clamp(max=len(numbers) - 1)]


def _choose_texts(sentences: int | Sequence[str]) -> list[str]:
    if isinstance(sentences, int):
        known = english_texts()
        require(
            sentences <= len(known),
            f"dataset parallel-speech: sentences={sentences}, and {len(known)} are known",
        )
        return [known[number * len(known) // sentences] for number in range(sentences)]
    require(
        all(map(str.strip, sentences)), f"dataset parallel-speech: a blank one in sentences={sentences!r}"
    )
    return list(dict.fromkeys(sentences))


def _load_or_synthesize(voice: str, text: str) -> tuple[Clip, Phones | None]:
    """A sentence in a voice, spoken now or earlier."""
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = cache_folder("audio") / "parallel" / voice / f"{key}-{_VERSION}.wav"
    beside = path.with_suffix(".json")
    clip = Clip(path=path, speaker=voice, text=text, key=key, language="en")
    try:
        if path.is_file():
            return clip, _read_phones(beside)
    except (OSError, ValueError):
        pass  # damaged or half deleted: said again
    wave, phones = synthesize(voice, text)
    if not keep(beside, json.dumps(phones).encode()) or not keep(path, sound.encoded(wave.numpy())):
        raise DataError(
            f"cannot write {path}: parallel-speech keeps what it lets speak; set REPRKIT_CACHE to a folder"
        )
    return clip, phones


def _read_phones(path: Path) -> Phones | None:
    told = json.loads(path.read_text("utf-8"))
    return None if told is None else [(str(phone), float(end)) for phone, end in told]
