"""Word and character errors of conversions, by a speech recognizer of open vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from reprkit.evaluation.encoding import progress_title, session
from reprkit.utils.progress import track_progress
from reprkit_audio.recognition.speech_recognition import Recognizer
from reprkit_audio.recognition.word_errors import character_error_rate, word_error_rate


@dataclass
class SpokenClip:
    """An utterance whose text is known, in all versions that are recognized.

    Attributes:
        text: what is said.
        language: such as "en"; None if unknown.
        waves: version -> waveform at the recognizer's rate.
        heard: version -> what the recognizer writes.
    """

    text: str
    language: str | None
    waves: dict[str, Float[Tensor, " samples"]]
    heard: dict[str, str] = field(default_factory=dict)


def recognize(clips: Sequence[SpokenClip], recognizer: Recognizer) -> None:
    """Fill in what is heard in each version of each clip."""
    for clip in track_progress(clips, progress_title("recognizing"), show=session().progress):
        clip.heard = {name: recognizer(wave, clip.language) for name, wave in clip.waves.items()}


def error_rates(clips: Sequence[SpokenClip], version: str) -> dict[str, float]:
    """Word and character error rate of a version, over all clips together."""
    heard, spoken = [clip.heard[version] for clip in clips], [clip.text for clip in clips]
    return {"wer": word_error_rate(heard, spoken), "cer": character_error_rate(heard, spoken)}


def rates_by_language(clips: Sequence[SpokenClip]) -> dict[str, dict[str, Any]]:
    """Language -> ``n`` clips and the error rates of each version; clips of unknown language are left out."""
    by_language: dict[str, list[SpokenClip]] = {}
    for clip in clips:
        if clip.language is not None:
            by_language.setdefault(clip.language, []).append(clip)
    return {
        language: {"n": len(some)} | {version: error_rates(some, version) for version in some[0].waves}
        for language, some in sorted(by_language.items())
    }
