"""Data set of the game Fish Fillets' dialogues: four voices, two languages, the same lines in both."""

from __future__ import annotations

from reprkit.registry.constraints import Count
from reprkit_audio.data.corpus import Corpus
from reprkit_audio.data.corpus_cache import load_fetched_clips


class Fillets(Corpus):
    """Lines of the two fish of Fish Fillets, in Czech and in Dutch: acted, 22 kHz, from Debian's packages.

    Speakers "cs-small", "cs-big", "nl-small", "nl-big": 36 to 41 minutes and 640 to 680 lines each.  A line's key is the
    same in both languages.  GPL-2 (ALTAR interactive and others); the license is stored with it in the cache.

    ``reprkit voice fetch fillets`` fetches the packages into the cache (110 MB and 33 MB, no root rights).

    Fields: ``x`` sequence (frames c), its front end in ``form``; ``speaker`` label (names: ``speakers``).  ``split``
    divides by line: no two parts share a line, in either language.

    Args:
        languages: of "cs", "nl".
        frontend: the front end of the frames: "world" or "log-mel", with options.
        frames: length of a window; if None, whole utterances of varying length.  Shorter utterances are left out and counted.
        stride: frames from one window to the next; if None, ``frames``.
        speakers: use only these speakers.
        speakers_held_out: speakers that are left out; ``unseen`` is a data set of them.
        utterances: at most this many of each speaker.

    Raises:
        DataError: a language that is unknown or was not fetched, or unknown speakers.
        PartArgumentError: a setting out of its range.
    """

    def __init__(
        self,
        languages: str | tuple[str, ...] = ("cs", "nl"),
        frontend: str = "world",
        *,
        frames: Count | None = 128,
        stride: Count | None = None,
        speakers: str | tuple[str, ...] | None = None,
        speakers_held_out: str | tuple[str, ...] = (),
        utterances: Count | None = None,
    ) -> None:
        super().__init__(
            load_fetched_clips("fillets", languages, ("cs", "nl"), 110),
            "fillets",
            frontend=frontend,
            frames=frames,
            stride=stride,
            seconds=20.0,
            speakers=speakers,
            speakers_held_out=speakers_held_out,
            utterances=utterances,
        )
