"""The figures of docs/results/voice/copy_synthesis.md: eight speakers through every vocoder, judged by Resemblyzer.

    python tests/benchmarks/figures_vocoders.py                                    griffin-lim and world
    python tests/benchmarks/figures_vocoders.py --neural runs/vocoder/model        and a trained one

Protocol: the four voices of asterisk and the four fish of fillets, each set split by seed 0 (recipes/vocoder.py trains on the
same train part).  A speaker's embedding is the mean of 40 natural utterances of train; 20 utterances of test, each of at least
1.5 s, are copied.  Identified: the share of copies whose nearest of the eight embeddings is their own speaker's; cosine: to
that embedding.  Spectrum, pitch and voicing are compared with the recording (reprkit_audio.similarity).  Times: one core, after
a first call, in seconds a second of sound.

Needs: reprkit-audio[judges], `reprkit voice fetch asterisk`, `reprkit voice fetch fillets`.
"""

import json
import math
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from reprkit_audio.recognition.speaker_verification import speaker_centroid, speaker_verifier
from reprkit_audio.similarity import mel_distance, pitch_difference
from reprkit_audio.vocoders import vocoder

import reprkit as rk

SETS = ("asterisk", "fillets")
KNOWN, COPIED, SHORTEST = 40, 20, 1.5


def utterances(part, speaker, most):
    """Evenly spread utterances of a speaker that are long enough."""
    mine = [number for number, clip in enumerate(part.clips) if clip.speaker == speaker]
    found = []
    for step in range(len(mine)):
        number = mine[step * 7919 % len(mine)]  # a prime: all over the part, whatever its order
        spoken = part.utterance(number)
        if len(spoken.wave) >= SHORTEST * spoken.rate:
            found.append(spoken.wave)
        if len(found) == most:
            break
    return found


def copied(route, waves):
    """Copies as long as their originals, and seconds of analysis and of synthesis a second of sound."""
    made, spent, length = [], [0.0, 0.0], sum(map(len, waves)) / route.front.rate
    route.synthesize(route.front.analyze(waves[0]))  # what is worked out once
    for wave in waves:
        started = time.process_time()
        seen = route.front.analyze(wave)
        between = time.process_time()
        copy = route.synthesize(seen)
        spent = [spent[0] + between - started, spent[1] + time.process_time() - between]
        made.append(torch.nn.functional.pad(copy, (0, max(0, len(wave) - len(copy))))[: len(wave)])
    return made, [each / length for each in spent]


def main(
    neural: Annotated[list[str], typer.Option(help="folders of trained vocoders")] = [],  # noqa: B006
    routes: Annotated[list[str], typer.Option(help="references")] = ["griffin-lim", "world"],  # noqa: B006
    out: Path = Path("runs/bench/vocoders.json"),
) -> None:
    judge = speaker_verifier()
    parts = {}
    for name in SETS:
        train, test = rk.dataset(f"{name}(frontend='log-mel', frames=None)").split(seed=0)
        parts |= {speaker: (train, test) for speaker in train.speakers}
    speakers = sorted(parts)
    known = torch.stack(
        [speaker_centroid(judge(utterances(parts[name][0], name, KNOWN))) for name in speakers]
    )
    waves = {name: utterances(parts[name][1], name, COPIED) for name in speakers}
    every = [wave for name in speakers for wave in waves[name]]
    owner = torch.tensor([number for number, name in enumerate(speakers) for _ in waves[name]])
    print(f"{len(speakers)} speakers, {len(every)} utterances, {sum(map(len, every)) / 16000:.0f} s")

    # A folder may be given more than once under names of its own; the last part but one names it.
    chosen = {"natural": None} | {each: vocoder(each) for each in routes}
    chosen |= {
        f"neural {Path(each).parent.name}": vocoder(f"neural(model={each!r}, device='cpu')")
        for each in neural
    }
    table = {}
    for name, route in chosen.items():
        made, spent = (every, (0.0, 0.0)) if route is None else copied(route, every)
        cosines = judge(made) @ known.T
        right = cosines.argmax(1) == owner
        pitches = [pitch_difference(*pair) for pair in zip(every, made, strict=True)]
        table[name] = {
            "identified": float(right.float().mean()),
            "worst": min(float(right[owner == number].float().mean()) for number in range(len(speakers))),
            "cosine": float(cosines[torch.arange(len(every)), owner].mean()),
            "mel_db": statistics.mean(mel_distance(*pair) for pair in zip(every, made, strict=True)),
            "pitch_semitones": statistics.mean(each for each, _ in pitches if not math.isnan(each)),
            "voicing": statistics.mean(share for _, share in pitches),
            "analysis": spent[0],
            "synthesis": spent[1],
        }
        print(name, {key: round(value, 3) for key, value in table[name].items()}, flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"speakers": speakers, "utterances": len(every), "routes": table}, indent=2))
    print(
        "\n| route | identified | worst speaker | cosine | mel, dB | pitch, semitones | voicing | analysis | synthesis |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, each in table.items():
        cells = [f"{each[key]:.2f}" for key in list(each)[:6]] + [
            f"{each[key]:.3f}" for key in list(each)[6:]
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    typer.run(main)
