"""Data set of your own folder of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reprkit.registry.constraints import Count, Positive, Share
from reprkit_audio.data.clips import Clip
from reprkit_audio.data.corpora import clips_below
from reprkit_audio.data.corpus import Corpus
from reprkit_audio.data.division import text_identity


class Speech(Corpus):
    """Recordings of several speakers below a folder: ``ROOT/SPEAKER/**/*.wav`` (flac, ogg, opus, mp3, aiff), VCTK, LibriTTS.

    Fields: ``x`` sequence (frames c), its front end in ``form``; ``speaker`` label (names: ``speakers``).
    Any rate, depth and number of channels is read as one channel of 16 kHz, and silence at the ends is cut off.  Texts are
    read from files beside the recordings, if there are any.  A file that cannot be read, is silent or shorter than 0.1 s is
    left out, counted and named in ``facts``, which also says which files were ignored.  Links are followed.  ``split`` divides
    by a hash of what is said, or of the path where that is unknown: an utterance stays in its part when others are added, and a
    text is in one part.  Frames are cached by file and front end.

    Args:
        root: the folder.
        frontend: the front end of the frames: "world" or "log-mel", with options.
        frames: length of a window; if None, whole utterances of varying length.  An utterance shorter than a window is
            left out and counted.
        stride: frames from one window to the next; if None, ``frames``: no overlap.
        seconds: longer files (a chapter, two hours of radio) are cut into pieces of equal length, at most this long, which have
            no text.
        speakers: use only these speakers.
        speakers_held_out: speakers that are left out; ``unseen`` is a data set of them.
        utterances: at most this many of each speaker.
        encoding: of transcripts without a byte-order mark; UTF-8 by default.  One that cannot be read is named in ``facts``.
        language: of the clips whose folder layout names none (VCTK is "en"), such as "de": evaluator ``voice`` recognizes words in
            it; if None, it is detected in each clip.
        max_corrupt: the largest share of unreadable files that may be left out; a larger one is an error.

    Raises:
        DataError: no folder, no sound files, too many that cannot be read, or unknown speakers.
        PartArgumentError: a setting out of its range.
    """

    def __init__(
        self,
        root: str,
        frontend: str = "world",
        *,
        frames: Count | None = 128,
        stride: Count | None = None,
        seconds: Positive = 20.0,
        speakers: str | tuple[str, ...] | None = None,
        speakers_held_out: str | tuple[str, ...] = (),
        utterances: Count | None = None,
        encoding: str | None = None,
        language: str | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        found = clips_below(root, encoding)
        self._root = found.files.folder
        super().__init__(
            [replace(clip, language=clip.language or language) for clip in found.clips],
            found.files.folder.resolve().name,
            frontend=frontend,
            frames=frames,
            stride=stride,
            seconds=seconds,
            speakers=speakers,
            speakers_held_out=speakers_held_out,
            utterances=utterances,
            max_corrupt=max_corrupt,
            facts=found.facts(),
            unreadable=found.files.unreadable,
        )

    def clip_identities(self, clips: Sequence[Clip]) -> list[str]:
        """Return what is said in each clip, or the path of its file where that is unknown."""
        return [text_identity(clip, self._root) for clip in clips]
