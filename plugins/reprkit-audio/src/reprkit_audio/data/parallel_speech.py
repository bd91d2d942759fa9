"""Data set of the same sentences in several synthetic voices, with phones: ground truth for conversion and for codes."""

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

from reprkit.data import sound
from reprkit.errors import DataError
from reprkit.interfaces import require
from reprkit.registry.constraints import Count
from reprkit.utils.cache import cache_folder, write_cached
from reprkit_audio.data.clips import Clip
from reprkit_audio.data.corpus import Corpus, Track
from reprkit_audio.data.engines import Phones, engine_of, synthesize
from reprkit_audio.data.sample_speech import english_texts
from reprkit_audio.frontends import frontend as front_end

_VERSION = 1  # of the cached files


class ParallelSpeech(Corpus):
    """Sentences in several synthesizers' voices; synthesized at first use, then cached.

    Voices: "rms", "slt", "awb", "kal16" of flite, "ked" of festival, and "espeak-VARIANT" of espeak-ng ("espeak-f2"), if
    installed.  Clips with the same key say the same.

    Fields: ``x`` sequence (frames c), its front end in ``form``; ``speaker`` label (names: ``speakers``); where all voices
    report phones (flite, festival) ``phone`` tokens (frames), the phone at each frame's center, with names in
    ``facts["symbols"]["phone"]``.  ``split`` divides by sentence.  Silence is not trimmed, since that would shift the phones.

    Args:
        voices: at least one; the speakers.
        sentences: how many of the plugin's more than 300 English sentences, or the sentences themselves.
        frontend: the front end of the frames: "world" or "log-mel", with options.
        frames: length of a window; if None, whole utterances of varying length.
        stride: frames from one window to the next; if None, ``frames``.
        speakers_held_out: speakers that are left out; ``unseen`` is a data set of them.

    Raises:
        DataError: an unknown voice, or one whose program is not installed.
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
            engine_of(voice)  # raises on an unknown voice before anything is synthesized
        spoken = [_load_or_synthesize(voice, text) for voice in wanted for text in texts]
        phones_of = {clip.path: phones for clip, phones in spoken}
        symbols = sorted({phone for phones in phones_of.values() for phone, _ in phones or ()})
        tracks: dict[str, Track] = {}
        if all(phones is not None for phones in phones_of.values()):
            period = front_end(frontend).hop / front_end(frontend).rate
            index = {phone: number for number, phone in enumerate(symbols)}

            def track(clip: Clip, frames: int) -> Int[Tensor, " t"]:
                return phones_at_frames(phones_of[clip.path] or [], frames, period, index)

            tracks["phone"] = (track, symbols)
        super().__init__(
            [clip for clip, _ in spoken],
            "parallel-speech",
            frontend=frontend,
            frames=frames,
            stride=stride,
            trim=False,
            speakers_held_out=speakers_held_out,
            tracks=tracks,
            facts={"symbols": {"phone": symbols}} if tracks else {},
        )


def phones_at_frames(phones: Phones, frames: int, period: float, index: dict[str, int]) -> Int[Tensor, " t"]:
    """Index of the phone at each frame's center (t,), frames ``period`` seconds apart from 0 on; the last phone is repeated."""
    ends = torch.tensor([end for _, end in phones], dtype=torch.float64)
    numbers = torch.tensor([index[phone] for phone, _ in phones])
    centers = torch.arange(frames, dtype=torch.float64) * period
    return numbers[torch.searchsorted(ends, centers, right=True).clamp(max=len(numbers) - 1)]


def _choose_texts(sentences: int | Sequence[str]) -> list[str]:
    if isinstance(sentences, int):
        known = english_texts()
        require(
            sentences <= len(known),
            f"dataset parallel-speech: sentences={sentences}, but only {len(known)} are known",
        )
        return [known[number * len(known) // sentences] for number in range(sentences)]
    require(
        all(map(str.strip, sentences)), f"dataset parallel-speech: blank sentence in sentences={sentences!r}"
    )
    return list(dict.fromkeys(sentences))


def _load_or_synthesize(voice: str, text: str) -> tuple[Clip, Phones | None]:
    """Load a sentence in a voice from the cache, or synthesize and store it."""
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = cache_folder("audio") / "parallel" / voice / f"{key}-{_VERSION}.wav"
    phone_path = path.with_suffix(".json")
    clip = Clip(path=path, speaker=voice, text=text, key=key, language="en")
    try:
        if path.is_file():
            return clip, _read_phones(phone_path)
    except (OSError, ValueError):
        pass  # damaged or partly deleted: synthesize again
    wave, phones = synthesize(voice, text)
    if not write_cached(phone_path, json.dumps(phones).encode()) or not write_cached(
        path, sound.encode(wave.numpy())
    ):
        raise DataError(
            f"cannot write {path}: parallel-speech stores what it synthesizes; set REPRKIT_CACHE to a writable folder"
        )
    return clip, phones


def _read_phones(path: Path) -> Phones | None:
    pairs = json.loads(path.read_text("utf-8"))
    return None if pairs is None else [(str(phone), float(end)) for phone, end in pairs]
