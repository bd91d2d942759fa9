"""A folder of recordings of one's own."""

from __future__ import annotations

from reprkit.registry.constraints import Count, Positive, Share
from reprkit_audio.data.corpora import clips_below
from reprkit_audio.data.corpus import Corpus


class Speech(Corpus):
    """Recordings of several speakers below a folder: ``ROOT/SPEAKER/**/*.wav`` (flac, ogg, opus, mp3, aiff), VCTK, LibriTTS.

    Fields: ``x`` sequence (frames c), how it was made in ``form``; ``speaker`` label (names: ``speakers``).
    Any rate, depth and number of channels is read as one channel of 16 kHz, and silence at the ends is cut off.  Texts are
    taken where they lie beside the files.  A file that cannot be read, is silent or shorter than 0.1 s is left out, counted
    and named in ``facts``.  ``split`` divides by utterance, each speaker alike.  Frames are kept in the cache, by file and
    front end.

    Args:
        root: the folder.
        frontend: what makes the frames: "world", "log-mel", with options.
        frames: length of a window; None takes utterances whole, of varying length.  An utterance shorter than a window is
            left out and counted.
        stride: frames from one window to the next; None: ``frames``, so that windows do not overlap.
        seconds: a longer file (a chapter, two hours of radio) is cut into pieces of equal length, none longer; they have no
            text.
        speakers: only these.
        speakers_held_out: these are no part of the set; ``unseen`` is a data set of them.
        utterances: at most so many of each speaker.
        max_corrupt: the largest share of unreadable files that is left out; more is an error.

    Raises:
        DataError: no folder, no sound files, too many that cannot be read, or speakers that are not there.
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
        max_corrupt: Share = 0.01,
    ) -> None:
        folder, clips = clips_below(root)
        super().__init__(
            clips,
            folder.resolve().name,
            frontend=frontend,
            frames=frames,
            stride=stride,
            seconds=seconds,
            speakers=speakers,
            speakers_held_out=speakers_held_out,
            utterances=utterances,
            max_corrupt=max_corrupt,
        )
