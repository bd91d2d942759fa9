"""Held-out utterances through a codec of speech: bytes that are written, and what is left of sound and words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit import Model
from reprkit.data import sound
from reprkit.errors import DataError
from reprkit.models.file_streams import compress_file, decompress_file
from reprkit_audio.data.clips import Utterance
from reprkit_audio.data.recordings import UtteranceDataset
from reprkit_audio.recognition import speech_quality
from reprkit_audio.recognition.speech_recognition import RATE, Recognizer, speech_recognizer
from reprkit_audio.recognition.word_errors import character_error_rate, word_error_rate
from reprkit_audio.similarity import mel_distance, pitch_difference

SHORTEST = 1.5  # seconds of an utterance
HEARD, PAUSE = 25.0, 0.5  # seconds that are recognized at once, and between utterances: Whisper reads 30 s

Wave = Float[Tensor, " samples"]


def draw_utterances(
    sources: Sequence[UtteranceDataset], seconds: float, *, language: str | None = None, texts: bool = False
) -> list[Utterance]:
    """Draw utterances of 1.5 s and more, by a fixed seed, until they have this length in all.

    Args:
        sources: data sets of speech, such as the test parts of a split.
        seconds: of speech.
        language: of all utterances, such as "en"; None for any.
        texts: only those whose text is known.

    Raises:
        DataError: none fits.
    """
    found, total = list[Utterance](), 0.0
    places = [(source, number) for source in sources for number in range(len(source.clips))]
    for place in torch.randperm(len(places), generator=torch.Generator().manual_seed(0)).tolist():
        source, number = places[place]
        clip = source.clips[number]
        if total >= seconds:
            break
        if (language or clip.language) != clip.language or (texts and not clip.text):
            continue
        spoken = source.utterance(number)
        if len(spoken.wave) >= SHORTEST * spoken.rate:
            found.append(spoken)
            total += len(spoken.wave) / spoken.rate
    if not found:
        raise DataError(
            f"no utterance of {SHORTEST:g} s or more fits language={language!r} and texts={texts}: drop one of them, or use "
            "data with a text and a language for each clip (reprkit voice fetch asterisk)"
        )
    return found


def code_files(
    model: Model, clips: Sequence[Utterance], folder: str | Path, *, slots: int | None = None
) -> tuple[list[Wave], int]:
    """Compress each utterance as ``reprkit compress`` does, decode it to ``folder/NUMBER.wav``, and return copies and bytes.

    The bytes are those of the strings with all their headers.

    Raises:
        BuildError, PartArgumentError: as ``reprkit.models.file_streams.compress_file``.
    """
    folder, copies, size = Path(folder), list[Wave](), 0
    folder.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(clips):
        path = folder / f"{number:03d}.wav"
        sound.write(path, clip.wave, clip.rate)
        stream = compress_file(model, path, slots=slots)
        decompress_file(model, stream, path)
        size += sum(map(len, stream.strings))
        copies.append(sound.read(path, clip.rate))
    return copies, size


def copy_figures(
    copies: Sequence[Wave], clips: Sequence[Utterance], size: int, *, words: bool = False
) -> dict[str, float]:
    """Return what a codec's copies cost and keep.

    ``kbit_s``: of ``size`` bytes.  ``mel_db``: mean absolute difference in audible mel bands, dB.  ``voicing``: share of frames
    with equal voicing.  With ``words``, ``wer`` and ``cer``: word and character error rate of Whisper, see ``joined_errors``; and
    ``dnsmos``, the predicted opinion score from 1 to 5, where DNSMOS is installed.

    Raises:
        DataError: copies of another length.
        ReprkitError: Whisper is not installed.
    """
    pairs = [(clip.wave, copy) for clip, copy in zip(clips, copies, strict=True)]
    row = {
        "kbit_s": 8e-3 * size / sum(len(clip.wave) / clip.rate for clip in clips),
        "mel_db": sum(mel_distance(*pair) for pair in pairs) / len(pairs),
        "voicing": sum(pitch_difference(*pair)[1] for pair in pairs) / len(pairs),
    }
    if words:
        row |= joined_errors(copies, clips)
        if speech_quality.is_installed():
            ratings = speech_quality.speech_quality()(copies)
            row["dnsmos"] = sum(each.overall for each in ratings) / len(ratings)
    return row


def joined_errors(
    waves: Sequence[Wave], clips: Sequence[Utterance], recognizer: Recognizer | None = None
) -> dict[str, float]:
    """Return ``wer`` and ``cer`` of utterances that are heard up to 25 s at a time, half a second between them.

    Whisper pads what it hears to 30 s, so that a minute of short utterances takes three times its five seconds instead of one time
    for each.

    Args:
        waves: of 16 kHz, one a clip.
        clips: with their texts and languages.
        recognizer: Whisper-base if None.

    Raises:
        DataError: no word was spoken.
        ReprkitError: Whisper is not installed.
    """
    hear = recognizer or speech_recognizer()
    heard, spoken, pause = list[str](), list[str](), torch.zeros(round(PAUSE * RATE))
    for language in sorted({clip.language or "" for clip in clips}):
        pairs = [
            (wave, clip) for wave, clip in zip(waves, clips, strict=True) if (clip.language or "") == language
        ]
        group, texts = list[Tensor](), list[str]()
        for number, (wave, clip) in enumerate(pairs):
            group, texts = [*group, wave, pause], [*texts, clip.text or ""]
            following = len(pairs[number + 1][0]) if number + 1 < len(pairs) else None
            if following is None or sum(map(len, group)) + following > HEARD * RATE:
                heard.append(hear(torch.cat(group), language or None))
                spoken.append(" ".join(texts))
                group, texts = [], []
    return {"wer": word_error_rate(heard, spoken), "cer": character_error_rate(heard, spoken)}
