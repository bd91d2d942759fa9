"""The dialogues of the game Fish Fillets: four voices, two languages, the same lines in both."""

from __future__ import annotations

from reprkit.registry.constraints import Count
from reprkit_audio.data.corpus import Corpus
from reprkit_audio.data.corpus_cache import load_fetched_clips


class Fillets(Corpus):
    """What the two fish of Fish Fillets say, in Czech and in Dutch: acted, 22 kHz, from Debian's packages.

    Speakers "cs-small", "cs-big", "nl-small", "nl-big": 36 to 41 minutes and 640 to 680 lines each.  A line's key is the
    same in both languages.  GPL-2 (ALTAR interactive and others); the licence lies beside it in the cache.

    ``reprkit voice fetch fillets`` puts the packages into the cache (110 MB and 33 MB, no root).

    Fields: ``x`` sequence (frames c), how it was made in ``form``; ``speaker`` label (names: ``speakers``).  ``split``
    divides by line: no part holds one of another part's, in either language.

    Args:
        languages: of "cs", "nl".
        frontend: what makes the frames: "world", "log-mel", with options.
        frames: length of a window; None takes utterances whole, of varying length.  Shorter ones are left out and counted.
        stride: frames from one window to the next; None: ``frames``.
        speakers: only these.
        speakers_held_out: these are no part of the set; ``unseen`` is a data set of them.
        utterances: at most so many of each speaker.

    Raises:
        DataError: a language that was not fetched, or that there is not, or speakers that are not there.
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
