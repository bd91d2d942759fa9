"""Who is converted into whom: pairs of held-out utterances, the same words where both say them."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from reprkit import Dataset
from reprkit.errors import DataError
from reprkit_audio.data.clips import Clip
from reprkit_audio.data.recordings import Spoken, several_speakers
from reprkit_audio.distortion import Heard
from reprkit_audio.recognition.speech_recognition import plain


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One conversion; utterances by their numbers in the data.

    Attributes:
        source: the utterance whose words are kept.
        speaker: label of who says it.
        target: label of whose voice it gets.
        prompts: utterances of the target that its voice is taken from.
        parallel: the target's own utterance of the same words, which is none of the prompts; None where there is none.
    """

    source: int
    speaker: int
    target: int
    prompts: tuple[int, ...]
    parallel: int | None = None


@dataclass
class Made:
    """The waveforms of one trial, and what was measured on them.

    Attributes:
        trial: who into whom.
        waves: "source", "converted", "copy" (the source through the vocoder), "shift" (the baseline), "target" (the same words
            by the target, where it says them), at the judges' rate.
        seen: of each waveform that is compared, its cepstrum and pitch.
    """

    trial: Trial
    waves: dict[str, Float[Tensor, " samples"]]
    seen: dict[str, Heard] = field(default_factory=dict)


def speech_of(data: Dataset | None, asker: str) -> Spoken:
    """The data as utterances of several speakers.

    Raises:
        DataError: it is no speech, or of one speaker only.
    """
    if not isinstance(data, Spoken):
        named = "nothing" if data is None else data.name
        raise DataError(
            f"{asker} converts whole utterances of speakers, and {named} has none: use speech, asterisk, fillets, ..."
        )
    several_speakers(data)
    return data


def long_enough(data: Spoken, seconds: float, most: float = 20.0) -> dict[int, list[int]]:
    """The utterances of each speaker (label) that are neither too short nor too long, by number."""
    front = data.frontend
    counts = data.whole().lengths()["x"].tolist()
    labels = {name: number for number, name in enumerate(data.speakers)}
    found: dict[int, list[int]] = {}
    for number, (clip, count) in enumerate(zip(data.clips, counts, strict=True)):
        if seconds <= count * front.hop / front.rate <= most:
            found.setdefault(labels[clip.speaker], []).append(number)
    return found


def trials(
    data: Spoken,
    pairs: int,
    prompts: int,
    seed: int,
    seconds: float,
    preferred: Collection[int] = (),
) -> list[Trial]:
    """At most ``pairs`` conversions, spread over all ordered pairs of speakers, of utterances of ``seconds`` and more.

    Sources that the target says, too, come first, and among them the ``preferred`` ones.

    Raises:
        DataError: fewer than two speakers with utterances that are long enough.
    """
    usable = long_enough(data, seconds)
    known = {label: numbers for label, numbers in usable.items() if len(numbers) > 1}
    if len(known) < 2:
        raise DataError(
            f"{data.name} has fewer than two speakers with two utterances of {seconds:g} to 20 s: give more of it, or "
            "seconds= below"
        )
    generator = np.random.default_rng(seed)
    mixed = {label: generator.permutation(numbers).tolist() for label, numbers in sorted(known.items())}
    texts = [_words(clip) for clip in data.clips]
    said = {
        (label, texts[number]): number
        for label, numbers in mixed.items()
        for number in numbers
        if texts[number] is not None
    }
    ordered = list(itertools.permutations(mixed, 2))
    queues = {}
    for one, two in ordered:
        twins = {number: said.get((two, texts[number])) for number in mixed[one]}
        queues[one, two] = sorted(
            twins.items(), key=lambda pair: (pair[1] is None, pair[0] not in preferred)
        )  # stable
    made: list[Trial] = []
    turns = [ordered[place] for place in generator.permutation(len(ordered))]
    for turn in range(max(map(len, queues.values()))):
        for one, two in turns:
            if turn < len(queues[one, two]) and len(made) < pairs:
                source, twin = queues[one, two][turn]
                others = [n for n in mixed[two] if n != twin]
                taken = [others[(turn * prompts + k) % len(others)] for k in range(min(prompts, len(others)))]
                made.append(
                    Trial(source=source, speaker=one, target=two, prompts=tuple(taken), parallel=twin)
                )
    return made


def _words(clip: Clip) -> tuple[str, str | None] | None:
    """What is said, in which language: equal for clips of the same words; None where that is not known."""
    known = clip.key if clip.key is not None else plain(clip.text or "")
    return (known, clip.language) if known else None
