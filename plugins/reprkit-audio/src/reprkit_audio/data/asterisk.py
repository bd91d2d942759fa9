"""Data set of Asterisk's telephone prompts: the same sentences in five languages by four voices."""

from __future__ import annotations

from reprkit_audio.data.fetched_corpus import FetchedCorpus


class Asterisk(FetchedCorpus):
    """Asterisk's core sounds from Debian's packages: 16 kHz, clean, read by professionals.

    English and Spanish are by one speaker, "allison" (Allison Smith): 2 x 25 to 31 minutes; French is "june" (June Wallack),
    Italian "carlo" (Carlo Flora), Russian "ivrvoice" (a woman, by ivrvoice.ru), 24 to 26 minutes each.  A text's key is the
    same in every language.  Tones and silence are left out.  CC BY-SA 3.0 (English, Spanish, French), CC BY 3.0 (Italian,
    Russian); each language's license and credits are stored with it in the cache.

    ``reprkit voice fetch asterisk`` fetches the packages into the cache (11 MB a language, no root rights).

    Fields: ``x`` sequence (frames c), its front end in ``form``; ``speaker`` label (names: ``speakers``).  ``split``
    divides by text: no two parts share a sentence, in any language.

    Args:
        languages: of "en", "es", "fr", "it", "ru"; all if None.
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

    corpus = "asterisk"
