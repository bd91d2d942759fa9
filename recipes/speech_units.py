"""Speech units: a codebook between frames and frames learns sounds, because the decoder is told who speaks.

An encoder that sees a few frames writes a code for each; the decoder rebuilds the frames from the codes and the speaker's name.
What the name says the codes need not, and a critic hears who speaks until they do not, so they come to stand for phones rather
than voices.  Random jitter in time lets a code stand in a neighbour's place: it must hold for a while, as a phone does, and
neighbours cannot share the work, which makes codes name phones less well.
Codes are compared with the phones that a synthesiser knows it spoke: purity, mutual information, ABX; and with who spoke;
k-means on the same frames with as many clusters stands beside.

Paper: Chorowski et al. 2019, "Unsupervised speech representation learning using WaveNet autoencoders", arXiv 1901.08810
(codes of 25 to 50 a second, speaker given to the decoder, random time jitter of the codes); the decoder here makes
envelopes, not samples.
Data: the same sentences by several synthetic voices, with their phones (reprkit-audio's parallel-speech; needs flite).
Expected (one core, about five minutes): docs/results/voice.md.

    python recipes/speech_units.py
    python recipes/speech_units.py --latent "binary(bits=7)"
    python recipes/speech_units.py --latent "residual-vq(codes=16, layers=2, dim=32)"
    python recipes/speech_units.py --objective reconstruction
    python recipes/speech_units.py --latent "vq(codes=128, dim=32)" --encoder "instance-norm(width=128, stride=2)" \
--decoder "adain(width=128, depth=3, stride=2, norm=False, condition_dim=32)"
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

OBJECTIVE = "jittered(p=0.5, reach=3, factor='content') + 30 * speaker-adversary(width=64, depth=1)"


def main(
    data: Annotated[str, typer.Option(help="with a field of phones")] = "parallel-speech(frames=64)",
    encoder: str = "convnext(width=256, depth=0, kernel=7)",
    latent: Annotated[str, typer.Option(help="the units")] = "vq(codes=128, dim=64)",
    decoder: str = "transformer(width=64, depth=1, heads=2)",
    speaker: Annotated[str, typer.Option(help="reads the speaker's name")] = "mlp(widths=(32,))",
    objective: str = OBJECTIVE,
    steps: int = 5_000,
    batch: int = 32,
    lr: float = 2e-3,
    critic_lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/speech_units",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", warmup=50, clip=5.0),
) -> None:
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    factors = {
        "content": rk.factor(encoder, latent),
        "speaker": rk.factor(speaker, "continuous(dim=16)", input="speaker", pool=True),
    }
    model = rk.build(data=train, factors=factors, decoder=decoder, objective=objective, seed=seed)
    measure = rk.create("evaluator", "speech-units")
    untrained = rk.evaluate(model, test, measure, fit_on=train, examples=0)
    critics = {turn: f"adam(lr={critic_lr})" for turn in model.objective.turns[1:]}
    how = {"batch": batch, "lr": lr, "seed": seed, "out": out, "resume": resume, **launch}
    for step in rk.loop(model, train, steps=steps, optimizers=critics, **how):
        for turn in model.objective.turns[::-1]:  # critics first
            losses = step.model(step.batch, turn=turn)
            step.backward(losses.total)
            step.update(turn)
        if step.every(500):
            step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
    model.save(f"{out}/model")
    found = rk.evaluate(model, test, "reconstruction", "codebook", measure, fit_on=train)
    names = ("purity", "pnmi", "speaker", "speaker-frame", "abx-within", "abx-across")
    shown = {f"speech-units.{name}": name for name in names}
    kmeans = {f"{name}": found["speech-units"].get(f"kmeans.{name}") for name in names[:4]}
    kmeans |= {f"{name}": found["speech-units"].get(f"frames.{name}") for name in names[4:]}
    table = {latent: found, "untrained": untrained, "k-means": {"speech-units": kmeans}}
    page = rk.report(out, table, title="Speech units", columns=shown)
    if rank() == 0:
        print(compare(table, shown))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
