"""Voice conversion from parallel data: a regression on aligned utterances of the same words, the contrast to unpaired systems.

Before models learned from unpaired speech, conversion was a regression: two speakers read the same sentences, dynamic time warping
pairs their frames, and a function is fitted from one's frames to the other's.  Here one model learns it for all pairs of speakers:
the content is the source's frames (a token a frame, a context of one frame by default), the target is given by the code of another
utterance.  The model is judged by the evaluators of recipes/voice_conversion.py, on the same split, so both can be
compared; it converts with ``reprkit voice convert``, too.

Papers: Stylianou et al. 1998 (IEEE Transactions on Speech and Audio Processing 6(2)); Desai et al. 2010 (IEEE TASLP 18(5)).
Data: the same sentences by several synthetic voices (reprkit-audio's parallel-speech; needs flite), or any data set in which
speakers share texts.
Expected (sentences of WordNet by four voices of flite, 1,500 steps, 5 minutes of a busy core): distortion to the target's own
utterance 6.35 dB, ridge regression 6.41, the unpaired preset "perturbed" 6.16, the source 10.4; docs/results/contracts/parallel.md.

    python recipes/parallel_conversion.py
    python recipes/parallel_conversion.py --encoder "convnext(width=64, depth=0, kernel=7)"
    python recipes/parallel_conversion.py --data "parallel-speech(voices=('rms', 'slt', 'espeak-f2'))"
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank


def main(
    data: Annotated[str, typer.Option(help="speech in which speakers share texts")] = "parallel-speech",
    frames: Annotated[int, typer.Option(help="of a window")] = 128,
    encoder: Annotated[str, typer.Option(help="of the source")] = "convnext(width=64, depth=0, kernel=1)",
    speaker: Annotated[str, typer.Option(help="encoder of the prompt")] = "voice(width=64, depth=3)",
    decoder: str = "adain(width=64, depth=2, stride=1, norm=False)",
    steps: int = 1_000,
    batch: int = 16,
    lr: float = 1e-3,
    context: Annotated[int, typer.Option(help="frames on each side that the ridge regression reads")] = 2,
    judge: Annotated[str, typer.Option(help="evaluator of the conversions")] = "voice",
    seed: int = 0,
    out: str = "runs/parallel_conversion",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    speech, test = rk.dataset(data).split(seed=seed)
    train, _ = rk.dataset(f"aligned-speech(data={data!r}, frames={frames})").split(seed=seed)
    factors = {
        "content": rk.factor(encoder, "continuous(dim=64)"),
        "speaker": rk.factor(speaker, "continuous(dim=64)", pool=True),
    }
    model = rk.build(data=train, factors=factors, decoder=decoder, objective="parallel", seed=seed)
    options = {"batch": batch, "lr": lr, "seed": seed, "out": out, "resume": resume, **launch}
    for step in rk.loop(model, train, steps=steps, **options):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(250):
            step.log(losses)
    model.save(f"{out}/model")
    from reprkit_audio.frame_regression import FrameRegression

    ridge = rk.create("evaluator", judge)
    ridge.conversion = FrameRegression(train, context=context)
    table = {
        "parallel": rk.evaluate(model, test, judge, fit_on=speech),
        "ridge regression": rk.evaluate(model, test, ridge, fit_on=speech),
    }
    columns = {
        "voice.parallel.mcd": "distortion, dB",
        "voice.parallel.unconverted": "of the source",
        "voice.wer": "words wrong",
        "voice.nearer": "nearer to the target",
        "voice.nearest": "nearest to the target",
    }
    page = rk.report(out, table, columns=columns)
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
