"""Speech recognition: pocketsphinx with a closed grammar of sentences."""

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
MAX_SENTENCES = 20  # of a grammar; with 60 sentences and a word loop pocketsphinx took minutes
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


class SpeechRecognizer:
    """Recognizes which of a few English sentences is spoken: pocketsphinx's acoustic model under a closed grammar (JSGF).

    Its free dictation is too poor to be useful; with the closed grammar it recognizes natural and good synthetic speech, and
    the error on copy synthesis tells the vocoder's share of an error.

    Args:
        sentences: 2 to 20 sentences, as they are written; case and punctuation are ignored.

    Raises:
        ReprkitError: pocketsphinx is not installed.
        DataError: too few or too many sentences, or a word that the pronunciation dictionary lacks.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        self.sentences = sorted({normalize_text(each) for each in sentences} - {""})
        if not 2 <= len(self.sentences) <= MAX_SENTENCES:
            raise DataError(
                f"speech recognition chooses among 2 to {MAX_SENTENCES} different sentences, not {len(self.sentences)}"
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
        """Return the most likely sentence of a waveform of 16 kHz; empty if nothing was recognized.

        Raises:
            DataError: it is no waveform.
        """
        values = (check_waveform(wave).cpu().clamp(-1, 1) * 32767).round().short().numpy().tobytes()
        decoder = self._decoder
        decoder.start_utt()
        decoder.process_raw(values, no_search=False, full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis is not None else ""


def normalize_text(sentence: str) -> str:
    """Lower-case a sentence, without punctuation, with one space between words: as in the dictionary."""
    return " ".join(_WORD.findall(sentence.lower().replace("’", "'")))


def is_in_vocabulary(sentence: str | None) -> bool:
    """Whether every word of a sentence is in the dictionary, and the sentence has no digits.

    Raises:
        ReprkitError: pocketsphinx is not installed.
    """
    if not sentence or re.search(r"\d", sentence) or not normalize_text(sentence):
        return False
    return all(word in _dictionary() for word in normalize_text(sentence).split())


def word_error_rate(recognized: Sequence[str], spoken: Sequence[str]) -> float:
    """Word error rate: substitutions, insertions and deletions over the number of spoken words; 0 is perfect, and it may exceed 1.

    Raises:
        DataError: no word was spoken.
    """
    from torchaudio.functional import edit_distance

    pairs = [
        (normalize_text(one).split(), normalize_text(two).split())
        for one, two in zip(recognized, spoken, strict=True)
    ]
    words = sum(len(two) for _, two in pairs)
    if not words:
        raise DataError("the spoken sentences have no words, so there is no word error rate")
    return sum(edit_distance(*pair) for pair in pairs) / words


def is_installed() -> bool:
    """Whether pocketsphinx is installed."""
    return importlib.util.find_spec("pocketsphinx") is not None


@functools.lru_cache(maxsize=1)
def _dictionary() -> frozenset[str]:
    if not is_installed():
        raise ReprkitError(
            "speech recognition uses pocketsphinx, and it is not installed\n"
            "  pip install 'reprkit-audio[judges]'"
        )
    import pocketsphinx

    path = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    with path.open(encoding="utf-8") as file:
        return frozenset(line.split(maxsplit=1)[0] for line in file if line.strip())
