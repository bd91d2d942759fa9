"""Data set of the game Fish Fillets' dialogues: four voices, two languages, the same lines in both."""

from __future__ import annotations

from reprkit_audio.data.fetched_corpus import FetchedCorpus


class Fillets(FetchedCorpus):
    """Lines of the two fish of Fish Fillets, in Czech and in Dutch: acted, 22 kHz, from Debian's packages.

    Speakers "cs-small", "cs-big", "nl-small", "nl-big": 36 to 41 minutes and 640 to 680 lines each.  A line's key is the
    same in both languages.  GPL-2 (ALTAR interactive and others); the license is stored with it in the cache.

    ``reprkit voice fetch fillets`` fetches the packages into the cache (110 MB and 33 MB, no root rights).

    Fields: ``x`` sequence (frames c), its front end in ``form``; ``speaker`` label (names: ``speakers``).  ``split``
    divides by line: no two parts share a line, in either language.

    Args:
        languages: of "cs", "nl"; all if None.
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

    corpus = "fillets"
