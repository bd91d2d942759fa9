"""Data set of many speakers: fetched corpora together, brought to one loudness and one band."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

from annotated_types import Ge, Le, MinLen

from reprkit.errors import DataError, PartArgumentError, nearest
from reprkit.registry.constraints import Count, Positive
from reprkit_audio.data.clips import Clip
from reprkit_audio.data.corpus import Corpus
from reprkit_audio.data.fetched_corpus import load_fetched_clips
from reprkit_audio.fetching import SOURCES

_TELEPHONE = 3600.0  # Hz, the band of recordings at 8 kHz


class Voices(Corpus):
    """31 speakers in fifteen languages by default: Asterisk, Fish Fillets, Tux Paint's stamps and Hedgewars together.

    Speech of such different sources differs in level and bandwidth, by which a model could identify the speaker.  Every recording
    is therefore scaled to one active level and low-pass filtered to one band.

    ========== ======== ==================================================== ==========================================
    corpus     speakers what                                                 license
    ========== ======== ==================================================== ==========================================
    asterisk   4        sentences, en es fr it ru, 16 kHz                    CC BY-SA 3.0, CC BY 3.0
    fillets    4        acted dialogues, cs nl, 22 kHz                       GPL-2
    tuxpaint   9        single words, be bg ca da el es fr ro ru, 44 kHz     GPL-2
    hedgewars  14       exclamations, about a minute each, en es pl ru uk    GPL-2
    prompts    3        sentences, es fr it, 8 kHz                           GPL-2, BSD-like, CC BY-SA 3.0 (Italian)
    ========== ======== ==================================================== ==========================================

    "prompts" holds nothing above 4 kHz, so it needs ``band=3600`` or less.  ``reprkit voice fetch voices`` fetches all of them (525
    MB of packages, no root rights); each one's license is stored with it in the cache.  That one person reads all stamps of a
    language is not stated for every language.

    Fields: ``x`` sequence (frames c), its front end in ``form``; ``speaker`` label (names: ``speakers``).  ``split`` divides by
    text where speakers share texts.

    Args:
        corpora: of those above.
        frontend: the front end of the frames: "world" or "log-mel", with options.
        loudness: active level of every recording, dB of full scale.
        band: highest frequency that is kept, Hz.
        frames: length of a window; if None, whole utterances of varying length.  Shorter utterances are left out and counted.
        stride: frames from one window to the next; if None, ``frames``.
        speakers: use only these speakers.
        speakers_held_out: speakers that are left out; ``unseen`` is a data set of them.
        utterances: at most this many of each speaker.

    Raises:
        DataError: a corpus that is unknown or was not fetched, or unknown speakers.
        PartArgumentError: a setting out of its range, or "prompts" with a wider band.
    """

    def __init__(
        self,
        corpora: str | Annotated[tuple[str, ...], MinLen(1)] = (
            "asterisk",
            "fillets",
            "tuxpaint",
            "hedgewars",
        ),
        frontend: str = "world",
        *,
        loudness: Annotated[float, Ge(-100), Le(0)] = -26.0,
        band: Positive = 7000.0,
        frames: Count | None = 128,
        stride: Count | None = None,
        speakers: str | tuple[str, ...] | None = None,
        speakers_held_out: str | tuple[str, ...] = (),
        utterances: Count | None = None,
    ) -> None:
        wanted = [corpora] if isinstance(corpora, str) else list(dict.fromkeys(corpora))
        if "prompts" in wanted and band > _TELEPHONE:
            raise PartArgumentError(
                f"data set voices: prompts were recorded at 8 kHz, so band={band:g} must be at most {_TELEPHONE:g}, or leave "
                "them out"
            )
        super().__init__(
            (replace(clip, loudness=loudness, band=band) for clip in _load(wanted)),
            "voices",
            frontend=frontend,
            frames=frames,
            stride=stride,
            seconds=20.0,
            speakers=speakers,
            speakers_held_out=speakers_held_out,
            utterances=utterances,
            max_corrupt=0.02,  # Hedgewars and Tux Paint hold some recordings of under 0.1 s
        )


def _load(corpora: Iterable[str]) -> list[Clip]:
    clips: list[Clip] = []
    for corpus in corpora:
        if corpus not in SOURCES:
            raise DataError(
                f"voices: no corpus {corpus!r}.{nearest(corpus, SOURCES)}\n  known: {', '.join(SOURCES)}"
            )
        # Keys name texts within a corpus; Asterisk and the prompts have the same keys for the same texts.
        prefix = "asterisk" if corpus == "prompts" else corpus
        clips += [
            clip if clip.key is None else replace(clip, key=f"{prefix}/{clip.key}")
            for clip in load_fetched_clips(corpus, None)
        ]
    return clips
