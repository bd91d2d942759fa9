"""Which words are said: pocketsphinx with a grammar of the sentences that it may be."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError, ReprkitError
from reprkit_audio.frontends.base import check_waveform

RATE = 16000  # Hz
MAX_SENTENCES = 20  # sentences of a grammar; with 60 and a loop of words pocketsphinx took minutes
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


class SpeechRecognizer:
    """Hears which of some English sentences it is: pocketsphinx's acoustic model under a closed grammar (JSGF).

    Free dictation of its is useless here; the closed grammar hears natural and well-made synthetic speech, and the error
    of copy synthesis says how much of an error is the vocoder's.

    Args:
        sentences: 2 to 20 of them, as they are written; capital letters and punctuation do not matter.

    Raises:
        ReprkitError: pocketsphinx is not installed.
        DataError: too few or too many sentences, or a word that the pronouncing dictionary does not know.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        self.sentences = sorted({normalize_text(each) for each in sentences} - {""})
        if not 2 <= len(self.sentences) <= MAX_SENTENCES:
            raise DataError(
                f"the judge of words chooses among 2 to {MAX_SENTENCES} different sentences, not {len(self.sentences)}"
            )
        for sentence in self.sentences:
            unknown = [word for word in sentence.split() if word not in _dictionary()]
            if unknown:
                raise DataError(f"pocketsphinx's dictionary has no {unknown[0]!r} (of {sentence!r})")
        from pocketsphinx import Decoder

        self._decoder: Any = Decoder(lm=None, loglevel="FATAL", samprate=float(RATE))
        grammar = " | ".join(self.sentences)
        self._decoder.add_jsgf_string("sentences", f"#JSGF V1.0;\ngrammar g;\npublic <s> = {grammar};\n")
        self._decoder.activate_search("sentences")

    def transcribe(self, wave: Float[Tensor, " samples"]) -> str:
        """The sentence that a waveform of 16 kHz is most likely to be; empty where nothing was understood.

        Raises:
            DataError: it is no waveform.
        """
        values = (check_waveform(wave).cpu().clamp(-1, 1) * 32767).round().short().numpy().tobytes()
        decoder = self._decoder
        decoder.start_utt()
        decoder.process_raw(values, no_search=False, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return str(found.hypstr) if found is not None else ""


def normalize_text(sentence: str) -> str:
    """A sentence as the dictionary writes it: small letters, no punctuation, one blank between words."""
    return " ".join(_WORD.findall(sentence.lower().replace("’", "'")))


def is_in_vocabulary(sentence: str | None) -> bool:
    """Whether the judge knows every word of a sentence, and there are no digits in it.

    Raises:
        ReprkitError: pocketsphinx is not installed.
    """
    if not sentence or re.search(r"\d", sentence) or not normalize_text(sentence):
        return False
    return all(word in _dictionary() for word in normalize_text(sentence).split())


def word_error_rate(heard: Sequence[str], said: Sequence[str]) -> float:
    """Word error rate: substitutions, insertions and deletions over the words said; 0 is perfect, and it may pass 1.

    Raises:
        DataError: no word was said.
    """
    from torchaudio.functional import edit_distance

    pairs = [
        (normalize_text(one).split(), normalize_text(two).split())
        for one, two in zip(heard, said, strict=True)
    ]
    words = sum(len(two) for _, two in pairs)
    if not words:
        raise DataError("no word was said, so there is none to mistake")
    return sum(edit_distance(*pair) for pair in pairs) / words


def is_installed() -> bool:
    """Whether pocketsphinx is there."""
    return importlib.util.find_spec("pocketsphinx") is not None


@functools.lru_cache(maxsize=1)
def _dictionary() -> frozenset[str]:
    if not is_installed():
        raise ReprkitError(
            "which words are said, is judged by pocketsphinx, and it is not installed\n"
            "  pip install 'reprkit-audio[judges]'"
        )
    import pocketsphinx

    path = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    with path.open(encoding="utf-8") as file:
        return frozenset(line.split(maxsplit=1)[0] for line in file if line.strip())
