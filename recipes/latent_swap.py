"""One encoder, one decoder, five latents: swap the latent by changing one string, on real handwritten digits.

Trains the same network with a continuous, Gaussian, binary, one-hot and codebook latent and compares them in one table with
PCA of the same width: test reconstruction error, rate of the code in bits, accuracy of a linear probe and of k nearest
neighbors on the code, and how much of the latent is used.  The three discrete latents have the same rate: 32 bits an image.

Papers: Hinton & Salakhutdinov 2006 (autoencoder against PCA); Kingma & Welling 2014 (Gaussian); Bengio et al. 2013 (binary,
straight-through); Jang et al. 2017 (one-hot); van den Oord et al. 2017 (vq).
Data: scikit-learn's 1,797 digits, 8 x 8, labels for evaluation only; split 70/10/20 by seed.  Other data gets the network of its
kind; measures that need labels are left out where there are none.
Expected (two cores, under three minutes; means of five seeds): squared error an image 0.43 continuous, 0.52 Gaussian, 0.86 binary,
0.90 one-hot, 0.95 vq, 0.73 PCA; linear probe .91 to .95; docs/results/latents.md.

    python recipes/latent_swap.py
    python recipes/latent_swap.py --latents "vq(codes=64)"
    python recipes/latent_swap.py --latents "fsq(levels=(8, 8, 8))" --latents "lfq(bits=9)" --latents one-hot
    python recipes/latent_swap.py --data ./rows.npy            # or a folder of images, sound or texts; labels are optional
    python recipes/latent_swap.py --measures reconstruction --measures codebook --measures sparsity
    python recipes/latent_swap.py --latents "gaussian(dim=8)" --latents "residual-vq(codes=16)" --encoder conv
    torchrun --nproc-per-node 2 recipes/latent_swap.py --device cpu
"""

import math
import re
from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

LATENTS = [
    "continuous(dim=16)",
    "gaussian(dim=16)",
    "binary(bits=32)",
    "one-hot(classes=16, groups=8)",
    "vq(codes=16, dim=2, codebooks=8)",
]
MEASURES = ["reconstruction", "linear-probe", "knn", "codebook", "projection"]
NEED_LABELS = ("linear-probe", "knn")
# Encoder and decoder of each kind of data.
DENSE = ("mlp(widths=(256, 128))", "mlp(widths=(128, 256))")
RECURRENT = ("gru(width=128)", "gru(width=128, causal=False)")
NETWORKS = {
    "image": DENSE, "map": DENSE, "vector": DENSE, "label": DENSE, "sequence": RECURRENT, "tokens": RECURRENT
}  # fmt: skip


def main(
    latents: Annotated[list[str], typer.Option(help="a latent; repeat the flag for more")] = LATENTS,
    data: str = "digits",
    encoder: Annotated[str, typer.Option(help="empty: the one of the kind of data")] = "",
    decoder: Annotated[str, typer.Option(help="empty: the one of the kind of data")] = "",
    objective: str = "reconstruction",
    measures: Annotated[
        list[str], typer.Option(help="an evaluator; repeat the flag for more; none: those that fit the data")
    ] = [],  # noqa: B006 (read only)
    width: Annotated[
        int, typer.Option(help="dimensions of the PCA baseline, at most the data's; 0: none")
    ] = 16,
    steps: int = 2_000,
    batch: int = 128,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/latent_swap",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    for latent in latents:
        rk.create("latent", latent)  # raises for a mistyped one before anything is trained
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    x = train.signature["x"]
    encoder, decoder = encoder or NETWORKS[x.kind][0], decoder or NETWORKS[x.kind][1]
    if not measures:
        measures = MEASURES
        if "label" not in train.signature.label_fields():
            measures = [name for name in MEASURES if name not in NEED_LABELS]
            print(f"the data has no labels: without {' and '.join(NEED_LABELS)}")
    table = {}
    if width and (x.discrete or None in x.shape):
        print(f"PCA is left out: it reads real values of one shape, and the data is {x.kind}")
    elif width:
        width = min(width, math.prod(x.shape), len(train))
        table[f"PCA, {width} dimensions"] = rk.evaluate(f"pca(dim={width})", test, *measures, fit_on=train)

    for latent in latents:
        run = f"{out}/" + re.sub(r"[^\w-]+", "-", latent).strip("-")
        model = rk.build(
            data=train, encoder=encoder, latent=latent, decoder=decoder, objective=objective, seed=seed
        )
        for step in rk.loop(
            model,
            train,
            steps=steps,
            batch=batch,
            lr=lr,
            seed=seed,
            out=run,
            resume=resume,
            **launch,
        ):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            if step.every(500):
                step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
        model.save(f"{run}/model")
        table[latent] = rk.evaluate(model, test, *measures, fit_on=train)
        rk.report(run, table[latent])

    page = rk.report(out, table, title=f"The same network, {len(latents)} latents")
    if rank() == 0:
        print(compare(table))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
