"""Speech units: a VQ autoencoder of speech frames whose codes come to stand for phones, not for speakers.

An encoder with a receptive field of a few frames assigns a code to each frame.  The decoder reconstructs the frames from the codes
and the speaker's name, so the codes need not carry the speaker; an adversarial critic that classifies the speaker from them removes
what is left.  Random jitter in time replaces a code by a neighbor's: a code must hold for a while, as a phone does, and neighboring
codes cannot split information between them, which would make each less like a phone.
The codes are compared with the phones that the speech synthesizer reports (purity, mutual information, ABX within and across
speakers) and with the speaker; k-means on the same frames is the baseline.  A token is a frame: the front end's hop
sets the rate of the units, 20 or 40 ms in the last two examples.

Paper: Chorowski et al. 2019, "Unsupervised speech representation learning using WaveNet autoencoders", arXiv 1901.08810
(25 to 50 codes a second, decoder conditioned on the speaker, random time jitter of the codes); the decoder here predicts
spectral envelopes, not samples.
Data: the same sentences by several synthetic voices, with their phones (reprkit-audio's parallel-speech; needs flite).
Expected (seed 0, one core, about five minutes): purity 0.525, k-means 0.483, untrained 0.141; docs/results/voice/units.md.
ABX at 20 and 40 ms: docs/results/contracts/units.md.

    python recipes/speech_units.py
    python recipes/speech_units.py --latent "binary(bits=7)"
    python recipes/speech_units.py --latent "residual-vq(codes=16, layers=2, dim=32)"
    python recipes/speech_units.py --objective reconstruction
    python recipes/speech_units.py --latent "vq(codes=128, dim=32)" --encoder "instance-norm(width=128, stride=2)" \
--decoder "adain(width=128, depth=3, stride=2, norm=False, condition_dim=32)"
    python recipes/speech_units.py --data "parallel-speech(frontend='log-mel(hop=320)', frames=32)"
    python recipes/speech_units.py --data "parallel-speech(frontend='log-mel(hop=640)', frames=16)"
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

OBJECTIVE = "jittered(p=0.5, reach=3, factor='content') + 30 * speaker-adversary(width=64, depth=1)"


def main(
    data: Annotated[
        str, typer.Option(help="a data set with a field of phones")
    ] = "parallel-speech(frames=64)",
    encoder: str = "convnext(width=256, depth=0, kernel=7)",
    latent: Annotated[str, typer.Option(help="the units")] = "vq(codes=128, dim=64)",
    decoder: str = "transformer(width=64, depth=1, heads=2)",
    speaker: Annotated[str, typer.Option(help="encoder of the speaker's name")] = "mlp(widths=(32,))",
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
    speech_units = rk.create("evaluator", "speech-units(triples=0)")
    untrained = rk.evaluate(model, test, speech_units, "abx", fit_on=train, examples=0)
    critics = {turn: f"adam(lr={critic_lr})" for turn in model.objective.turns[1:]}
    options = {"batch": batch, "lr": lr, "seed": seed, "out": out, "resume": resume, **launch}
    for step in rk.loop(model, train, steps=steps, optimizers=critics, **options):
        for turn in model.objective.turns[::-1]:  # critics first
            losses = step.model(step.batch, turn=turn)
            step.backward(losses.total)
            step.update(turn)
        if step.every(500):
            step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
    model.save(f"{out}/model")
    results = rk.evaluate(model, test, "reconstruction", "codebook", speech_units, "abx", fit_on=train)
    names = {"speech-units": ("purity", "pnmi", "speaker", "speaker-frame"), "abx": ("within", "across")}
    columns = {
        f"{judge}.{metric}": metric if judge == "speech-units" else f"ABX {metric}"
        for judge, metrics in names.items()
        for metric in metrics
    }
    table = {latent: results, "untrained": untrained}
    for row, prefix in (("k-means", "kmeans."), ("frames", "frames.")):
        table[row] = {
            judge: {metric: results[judge].get(f"{prefix}{metric}") for metric in metrics}
            for judge, metrics in names.items()
        }
    page = rk.report(out, table, title="Speech units", columns=columns)
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
