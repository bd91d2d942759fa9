"""What conversion could reach with these features: every frame becomes the mean of the target's nearest frames; no model.

    python tests/benchmarks/figures_voice_bound.py [--data "asterisk(frames=64)"] [--neighbours 4 --neighbours 32]

For docs/results/voice/presets.md.  Conversions, target utterances for the pitch, judge and centres are those of the evaluator
``voice`` with its own settings; frames of a source from the test part are replaced by means of the nearest frames (Euclid, every
coefficient without its speaker's mean and spread) among all that the target says in the train part, then, in the second row,
every coefficient gets the target's own mean and spread back, since means are smoother than speech (Toda et al. 2007, IEEE
Transactions on Audio, Speech and Language Processing 15(8)).

Needs: reprkit-audio with its judge of speakers, and the corpus in the cache (reprkit voice fetch asterisk).
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from reprkit_audio import vocoders
from reprkit_audio.evaluators.conversion_pairs import conversion_pairs, utterances_by_speaker
from reprkit_audio.evaluators.scores import speaker_scores
from reprkit_audio.prosody import convert_pitch, pitch_statistics
from reprkit_audio.recognition.speaker_verification import RATE, speaker_centroid, speaker_verifier

import reprkit as rk
from reprkit.data.resampling import resample


def frames_of(speech, label):
    """All frames of a speaker (n c)."""
    own = [number for number, clip in enumerate(speech.clips) if clip.speaker == speech.speakers[label]]
    return torch.cat([speech.sound(number).frames for number in own])


def plain(frames, like):
    """Every coefficient without the mean and deviation of ``like``'s."""
    return (frames - like.mean(0)) / like.std(0)


def searched(frames, own, among, count):
    """The mean of each frame's nearest ones, both without their speaker's mean and spread; a block at a time (t c)."""
    wanted, known = plain(frames, own), plain(among, among)
    blocks = [torch.cdist(block, known).topk(count, largest=False).indices for block in wanted.split(512)]
    return among[torch.cat(blocks)].mean(1)


def spread(frames, like):
    """Every coefficient with the mean and deviation of ``like``'s."""
    return plain(frames, frames) * like.std(0) + like.mean(0)


def main(
    data: str = "asterisk(frames=64)",
    neighbours: Annotated[list[int], typer.Option(help="of each frame; repeat the flag for more")] = [4, 32],  # noqa: B006
    pairs: int = 48,
    enrol: int = 20,
    seed: int = 0,
    out: Path = Path("runs/figures/voice_bound.json"),
) -> None:
    torch.set_num_threads(1)
    train, test = rk.dataset(data).split(seed=seed)
    judge, vocoder = speaker_verifier(), vocoders.vocoder(None, form=test.frontend)
    chosen = conversion_pairs(test, pairs, 1, 0, 1.0)
    there = {label: frames_of(train, label) for label in range(len(test.speakers))}
    centres = {}
    for label, numbers in sorted(utterances_by_speaker(train, 1.0).items()):
        places = torch.linspace(0, len(numbers) - 1, min(enrol, len(numbers))).round().int().tolist()
        said = [train.utterance(numbers[place]) for place in places]
        centres[label] = speaker_centroid(judge([resample(each.wave, each.rate, RATE) for each in said]))

    record = {}
    for count in neighbours:
        waves = {"": [], ", spread restored": []}
        for trial in chosen:
            source, target = test.sound(trial.source), test.sound(trial.prompts[0])
            pitch = convert_pitch(
                source.pitch, pitch_statistics(source.pitch), pitch_statistics(target.pitch)
            )
            near = searched(source.frames, there[trial.speaker], there[trial.target], count)
            for name, frames in zip(waves, (near, spread(near, there[trial.target])), strict=True):
                wave = vocoder.synthesize(replace(source, frames=frames, pitch=pitch))
                waves[name].append(resample(wave, test.frontend.rate, RATE))
        for name, each in waves.items():
            record[f"{count} nearest{name}"] = speaker_scores(judge(each), chosen, centres, own=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1))
    print("| system | nearer | nearest | cosine to target | to source |\n|---|---|---|---|---|")
    for name, each in record.items():
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in each.values())} |")


if __name__ == "__main__":
    typer.run(main)
