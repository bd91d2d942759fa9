"""Choice of conversions: pairs of held-out utterances, of the same words where both speakers say them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from reprkit import Dataset
from reprkit.errors import DataError
from reprkit_audio.data.clips import Clip, check_speakers
from reprkit_audio.data.recordings import UtteranceDataset, check_several_speakers
from reprkit_audio.distortion import SpeechFeatures
from reprkit_audio.recognition.word_errors import normalize_text


@dataclass(frozen=True, kw_only=True)
class ConversionPair:
    """One conversion; utterances by their numbers in the data.

    Attributes:
        source: the utterance whose words are kept.
        speaker: label of the source's speaker.
        target: label of the target speaker.
        prompts: utterances of the target speaker that the voice is extracted from.
        parallel: the target speaker's own utterance of the same words, not among the prompts; None if there is none.
        own: other utterances of the source's speaker, for a conversion to the own voice; none if it is not made.
    """

    source: int
    speaker: int
    target: int
    prompts: tuple[int, ...]
    parallel: int | None = None
    own: tuple[int, ...] = ()


@dataclass
class Conversion:
    """The waveforms of one conversion pair, and the features measured on them.

    Attributes:
        pair: source and target.
        waves: "source", "converted", "copy" (the source through the vocoder), "shift" (the baseline), "target" (the same words
            by the target speaker, where there is one), "self" (converted to the own voice, where asked for), at the evaluation
            models' rate.
        heard: what the speech recognizer writes, for each waveform that was recognized.
        features: of each waveform that is compared, its cepstrum and pitch.
    """

    pair: ConversionPair
    waves: dict[str, Float[Tensor, " samples"]]
    features: dict[str, SpeechFeatures] = field(default_factory=dict)
    heard: dict[str, str] = field(default_factory=dict)


def check_utterances(data: Dataset | None, evaluator: str) -> UtteranceDataset:
    """Check that the data is a data set of utterances of several speakers, and return it.

    Raises:
        DataError: it has no utterances, or one speaker only.
    """
    if not isinstance(data, UtteranceDataset):
        name = "nothing" if data is None else data.name
        raise DataError(
            f"{evaluator} needs whole utterances with speakers, and {name} has none: use speech, asterisk, fillets, ..."
        )
    check_several_speakers(data)
    return data


def utterances_by_speaker(data: UtteranceDataset, seconds: float, most: float = 20.0) -> dict[int, list[int]]:
    """Speaker label -> numbers of the utterances of ``seconds`` to ``most`` seconds."""
    front = data.frontend
    counts = data.whole().lengths()["x"].tolist()
    labels = {name: number for number, name in enumerate(data.speakers)}
    by_speaker: dict[int, list[int]] = {}
    for number, (clip, count) in enumerate(zip(data.clips, counts, strict=True)):
        if seconds <= count * front.hop / front.rate <= most:
            by_speaker.setdefault(labels[clip.speaker], []).append(number)
    return by_speaker


def conversion_pairs(
    data: UtteranceDataset,
    pairs: int,
    prompts: int,
    seed: int,
    seconds: float,
    targets: Sequence[str] | None = None,
) -> list[ConversionPair]:
    """Choose at most ``pairs`` conversions, spread over all ordered pairs of speakers, of utterances of ``seconds`` or longer.

    Sources whose words the target speaker also says come first.  With ``targets`` only pairs with these target speakers count.

    Raises:
        DataError: fewer than two speakers with utterances that are long enough, or no such target.
    """
    usable = utterances_by_speaker(data, seconds)
    known = {label: numbers for label, numbers in usable.items() if len(numbers) > 1}
    if len(known) < 2:
        raise DataError(
            f"{data.name} has fewer than two speakers with two utterances of {seconds:g} to 20 s: add more data, or lower "
            "seconds="
        )
    generator = np.random.default_rng(seed)
    shuffled = {label: generator.permutation(numbers).tolist() for label, numbers in sorted(known.items())}
    texts = [_text_id(clip) for clip in data.clips]
    by_text = {
        (label, texts[number]): number
        for label, numbers in shuffled.items()
        for number in numbers
        if texts[number] is not None
    }
    wanted = _target_labels(data, known, targets)
    ordered = [pair for pair in itertools.permutations(shuffled, 2) if pair[1] in wanted]
    queues = {}
    for one, two in ordered:
        twins = {number: by_text.get((two, texts[number])) for number in shuffled[one]}
        queues[one, two] = sorted(twins.items(), key=lambda pair: pair[1] is None)  # stable
    chosen: list[ConversionPair] = []
    turns = [ordered[index] for index in generator.permutation(len(ordered))]
    for turn in range(max(map(len, queues.values()))):
        for one, two in turns:
            if turn < len(queues[one, two]) and len(chosen) < pairs:
                source, twin = queues[one, two][turn]
                others = [n for n in shuffled[two] if n != twin]
                prompted = [
                    others[(turn * prompts + k) % len(others)] for k in range(min(prompts, len(others)))
                ]
                chosen.append(
                    ConversionPair(
                        source=source, speaker=one, target=two, prompts=tuple(prompted), parallel=twin
                    )
                )
    return chosen


def spoken_pairs(
    data: UtteranceDataset,
    clips: int,
    languages: Sequence[str] | None,
    prompts: int,
    seed: int,
    seconds: float,
    targets: Sequence[str] | None = None,
) -> list[ConversionPair]:
    """Choose conversions whose words are recognized: at most ``clips`` utterances with a known text in each language.

    The targets of a language's utterances take turns among all other speakers.  No prompt says the source's words, so that its
    frames are no answer.

    Args:
        data: the utterances.
        clips: the most of a language; utterances of unknown language count as one more language.
        languages: the languages; all if None.
        prompts: utterances of the target.
        seed: of the choice.
        seconds: shorter utterances are left out.
        targets: names of the only target speakers; all others if None.

    Raises:
        DataError: an unknown target, or one without two utterances that are long enough.
    """
    usable = utterances_by_speaker(data, seconds)
    known = {label: numbers for label, numbers in sorted(usable.items()) if len(numbers) > 1}
    wanted = _target_labels(data, known, targets)
    generator = np.random.default_rng(seed)
    by_language: dict[str | None, list[tuple[int, int]]] = {}
    for label, numbers in known.items():
        for number in numbers:
            clip = data.clips[number]
            if normalize_text(clip.text or "") and (languages is None or clip.language in languages):
                by_language.setdefault(clip.language, []).append((label, number))
    texts = [_text_id(clip) for clip in data.clips]

    def others_than(numbers: Sequence[int], source: int) -> list[int]:
        """Those that say other words; all but the source where there are none."""
        rest = [number for number in numbers if number != source]
        said = texts[source]
        return [n for n in rest if said is None or texts[n] != said] or rest

    chosen = []
    for language in sorted(by_language, key=str):
        rows = by_language[language]
        for turn, row in enumerate(generator.permutation(len(rows))[:clips]):
            speaker, source = rows[row]
            others = [label for label in wanted if label != speaker]
            if others:
                target = others[turn % len(others)]
                chosen.append(
                    ConversionPair(
                        source=source,
                        speaker=speaker,
                        target=target,
                        prompts=_draw_prompts(others_than(known[target], source), prompts, generator),
                        own=_draw_prompts(others_than(known[speaker], source), prompts, generator),
                    )
                )
    return chosen


def _target_labels(data: UtteranceDataset, known: Iterable[int], targets: Sequence[str] | None) -> list[int]:
    """Labels of the target speakers, in the order of ``known``.

    Raises:
        DataError: one that has no two utterances that are long enough.
    """
    available = {data.speakers[label]: label for label in known}
    if targets is not None:
        check_speakers(targets, available, "targets")
    return [label for name, label in available.items() if targets is None or name in targets]


def _draw_prompts(numbers: Sequence[int], count: int, generator: np.random.Generator) -> tuple[int, ...]:
    """Draw ``count`` of the utterances, or all where there are fewer."""
    return tuple(generator.permutation(numbers)[:count].tolist())


def _text_id(clip: Clip) -> tuple[str, str | None] | None:
    """Text and language: equal for clips of the same words; None if the text is unknown."""
    text = clip.key if clip.key is not None else normalize_text(clip.text or "")
    return (text, clip.language) if text else None
