"""The figures of docs/results/voice.md on words and quality without training: natural speech, copies, and two baselines.

    python tests/benchmarks/figures_voice_words.py [--data "asterisk(frames=128)"] [--seed 10] [--clips 8]
    python tests/benchmarks/figures_voice_words.py --only natural --only world --language en --language it

Rows: ``natural`` recordings; copy synthesis by ``world`` and by ``griffin-lim``; ``shift``, the source's pitch and formants
shifted to the target's; ``nearest``, every frame replaced by the mean of the four nearest frames of the target's training
part, with the target's mean and deviation (as in figures_voice_bound.py).  Utterances, targets and prompts are those of the
evaluator ``voice`` with the same ``clips``; words are recognized by Whisper-base, quality is rated by DNSMOS.

Needs: reprkit-audio with its evaluation models, and the corpus in the cache (reprkit voice fetch asterisk).
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from figures_voice_bound import frames_of, searched, spread
from reprkit_audio import vocoders
from reprkit_audio.evaluators.conversion_pairs import spoken_pairs, utterances_by_speaker
from reprkit_audio.evaluators.spoken_words import SpokenClip, rates_by_language, recognize
from reprkit_audio.formants import formant_ratio, shift_voice
from reprkit_audio.frontends import frontend
from reprkit_audio.prosody import convert_pitch, pitch_statistics
from reprkit_audio.recognition.speech_quality import speech_quality
from reprkit_audio.recognition.speech_recognition import speech_recognizer

import reprkit as rk

ROWS = ("natural", "world", "griffin-lim", "shift", "nearest")


def shifted(test, pair, voices):
    """The source with the target's pitch and formants."""
    front, prompt = test.frontend, test.sound(pair.prompts[0])
    ratio = formant_ratio(voices[pair.speaker], voices[pair.target], front)
    return shift_voice(test.sound(pair.source), front, ratio, None, pitch_statistics(prompt.pitch))


def nearest(test, pair, there):
    """The source's frames from the target's own, with the target's mean and deviation."""
    source, prompt = test.sound(pair.source), test.sound(pair.prompts[0])
    frames = searched(source.frames, there[pair.speaker], there[pair.target], 4)
    pitch = convert_pitch(source.pitch, pitch_statistics(source.pitch), pitch_statistics(prompt.pitch))
    return replace(source, frames=spread(frames, there[pair.target]), pitch=pitch)


def main(
    data: str = "asterisk(frames=128)",
    clips: Annotated[int, typer.Option(help="utterances of each language")] = 8,
    language: Annotated[list[str], typer.Option(help="repeat the flag for more")] = ["en", "es"],  # noqa: B006
    only: Annotated[list[str], typer.Option(help="rows; repeat the flag for more")] = list(ROWS),  # noqa: B006
    seed: Annotated[int, typer.Option(help="of the division")] = 10,
    out: Path = Path("runs/figures/voice_words.json"),
) -> None:
    torch.set_num_threads(1)
    train, test = rk.dataset(data).split(seed=seed)
    chosen = spoken_pairs(test, clips, language, 1, 0, 1.0)
    there = {label: frames_of(train, label) for label in range(len(test.speakers))}
    known = utterances_by_speaker(train, 1.0)
    voices = {label: [train.sound(number) for number in numbers[:5]] for label, numbers in known.items()}
    mel, world = frontend("log-mel"), vocoders.vocoder("world", form=test.frontend)
    griffin = vocoders.vocoder("griffin-lim", form=mel)
    routes = {
        "natural": lambda pair: test.utterance(pair.source).wave,
        "world": lambda pair: world.synthesize(test.sound(pair.source)),
        "griffin-lim": lambda pair: griffin.synthesize(mel.analyze(test.utterance(pair.source).wave)),
        "shift": lambda pair: world.synthesize(shifted(test, pair, voices)),
        "nearest": lambda pair: world.synthesize(nearest(test, pair, there)),
    }
    record = {}
    for name in only:
        start, spoken = time.time(), []
        for pair in chosen:
            clip = test.clips[pair.source]
            spoken.append(
                SpokenClip(text=clip.text, language=clip.language, waves={name: routes[name](pair)})
            )
        recognize(spoken, speech_recognizer())
        ratings = speech_quality()([clip.waves[name] for clip in spoken])
        record[name] = {
            "languages": rates_by_language(spoken),
            "dnsmos": sum(each.overall for each in ratings) / len(ratings),
            "heard": [[clip.language, clip.text, clip.heard[name]] for clip in spoken],
            "seconds": round(time.time() - start),
        }
        cells = [
            f"{record[name]['languages'][each][name][rate]:.2f}"
            for each in language
            for rate in ("wer", "cer")
        ]
        print(f"| {name} | {' | '.join(cells)} | {record[name]['dnsmos']:.2f} |", flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    typer.run(main)
