"""Word and character error rates of recognized texts."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from reprkit.errors import DataError
from reprkit_audio.recognition.edit_distance import edit_distance

_APOSTROPHE = "'"


def normalize_text(text: str) -> str:
    """Lower-case a text, without punctuation and symbols, with one space between words; numbers and accents stay as written.

    An apostrophe inside a word stays, a hyphen separates words.
    """
    plain = unicodedata.normalize("NFKC", text.lower()).replace("’", _APOSTROPHE)
    spaced = "".join(c if c == _APOSTROPHE or unicodedata.category(c)[0] not in "PSC" else " " for c in plain)
    words = (word.strip(_APOSTROPHE) for word in spaced.split())
    return " ".join(word for word in words if word)


def word_error_rate(recognized: Sequence[str], spoken: Sequence[str]) -> float:
    """Word error rate: substitutions, insertions and deletions over the number of spoken words; 0 is perfect, and it may exceed 1.

    Raises:
        DataError: no word was spoken.
    """
    return _error_rate([(_words(one), _words(two)) for one, two in zip(recognized, spoken, strict=True)])


def character_error_rate(recognized: Sequence[str], spoken: Sequence[str]) -> float:
    """Character error rate: as ``word_error_rate``, of characters, with one space between words.

    Raises:
        DataError: no word was spoken.
    """
    pairs = zip(recognized, spoken, strict=True)
    return _error_rate([(list(normalize_text(one)), list(normalize_text(two))) for one, two in pairs])


def _words(text: str) -> list[str]:
    return normalize_text(text).split()


def _error_rate(pairs: Sequence[tuple[list[str], list[str]]]) -> float:
    count = sum(len(spoken) for _, spoken in pairs)
    if not count:
        raise DataError("the spoken texts have no words, so there is no error rate")
    return sum(edit_distance(*pair) for pair in pairs) / count
