"""Data set of real speech included in the plugin, so that everything runs without downloads."""

from __future__ import annotations

from pathlib import Path

from reprkit.registry.constraints import Count
from reprkit_audio.data.corpus import Corpus
from reprkit_audio.data.corpus_cache import read_index

FOLDER = Path(__file__).parents[1] / "speech"


class SampleSpeech(Corpus):
    """36 sentences in five languages by four speakers, nine minutes of real speech: a small part of ``asterisk``.

    Allison Smith reads English and Spanish ("allison"), June Wallack French ("june"), Carlo Flora Italian ("carlo"), and the
    Russian voice is ivrvoice.ru's ("ivrvoice").  CC BY-SA 3.0 and CC BY 3.0: ``speech/ATTRIBUTION.md`` in the package.  For
    trying things out: too little to train a useful model.

    Fields: ``x`` sequence (frames c), its front end in ``form``; ``speaker`` label (names: ``speakers``).  ``split``
    divides by text: no two parts share a sentence, in any language.

    Args:
        frontend: the front end of the frames: "world" or "log-mel", with options.
        frames: length of a window; if None, whole utterances of varying length.  Shorter utterances are left out and counted.
        stride: frames from one window to the next; if None, ``frames``.
        speakers: use only these speakers.
        speakers_held_out: speakers that are left out; ``unseen`` is a data set of them.
        utterances: at most this many of each speaker.

    Raises:
        DataError: unknown speakers.
        PartArgumentError: a setting out of its range.
    """

    def __init__(
        self,
        frontend: str = "world",
        *,
        frames: Count | None = 128,
        stride: Count | None = None,
        speakers: str | tuple[str, ...] | None = None,
        speakers_held_out: str | tuple[str, ...] = (),
        utterances: Count | None = None,
    ) -> None:
        super().__init__(
            read_index(FOLDER),
            "sample-speech",
            frontend=frontend,
            frames=frames,
            stride=stride,
            speakers=speakers,
            speakers_held_out=speakers_held_out,
            utterances=utterances,
        )


def english_texts() -> list[str]:
    """The English sentences of Asterisk's core sounds, 4 to 18 words each, for speech synthesizers."""
    return (FOLDER / "texts.txt").read_text("utf-8").splitlines()
