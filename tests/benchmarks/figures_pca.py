"""The figures of docs/results/contracts/pca.md: a tied linear autoencoder finds the space of the principal components.

    python tests/benchmarks/figures_pca.py
    python tests/benchmarks/figures_pca.py --optimizer lbfgs --steps 20

Protocol: scikit-learn's digits, split by seed 0 into train and test (80/20 %); encoder flat, latent continuous, decoder mirror with
a Gaussian of scale 1 (half the squared error), in float64; on the whole training set, Adam with a cosine schedule in a plain loop,
or L-BFGS (100 iterations a step, strong Wolfe line search) in rk.loop with precision="fp64" and a closure.  Compared with
scikit-learn's PCA of the same training set: the largest principal angle between both spaces, the distance of the weights' rows
from an orthonormal basis, and the squared error of an example on test.
"""

import json
import tempfile
from typing import Annotated

import numpy as np
import sklearn
import torch
import typer
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

import reprkit as rk

DECODERS = {"mirror (tied)": "mirror(scale=1.0)", "flat (not tied)": "flat(scale=1.0)"}


def train(model, batch, *, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model(batch).total.backward()
        optimizer.step()
        schedule.step()


def train_by_closures(model, data, *, steps):
    """Train by L-BFGS in the loop; each step is of the whole training set."""
    options = {"steps": steps, "batch": len(data), "lr": 1.0, "precision": "fp64", "progress": False}
    lbfgs = "lbfgs(max_iter=100, history_size=100, line_search_fn='strong_wolfe', tolerance_grad=1e-10, tolerance_change=1e-14)"
    for step in rk.loop(model, data, optimizer=lbfgs, device="cpu", log_every=0, **options):

        def closure(step=step):
            losses = step.model(step.batch)
            step.backward(losses.total)
            return losses

        step.update(closure=closure)
    model.eval()


@torch.no_grad()
def measure(model, pca, x):
    """Return the largest angle (radians), the distance from an orthonormal basis, and the squared error of an example."""
    columns = (
        model.adapters["code"] if "flat" in str(model.decoder.reference) else model.decoder.head.linear
    ).weight
    basis = columns.numpy() if columns.shape[0] > columns.shape[1] else columns.numpy().T
    output = model.decode(model.encode({"x": x})).x.squeeze(1).numpy()
    return {
        "angle": float(subspace_angles(basis, pca.components_.T).max()),
        "orthonormal": float(np.abs(basis.T @ basis - np.eye(basis.shape[1])).max()),
        "error": float(np.square(output - x.flatten(1).numpy()).sum(1).mean()),
    }


def main(
    dim: int = 8,
    steps: int = 2_000,
    lr: float = 0.03,
    seeds: Annotated[int, typer.Option(help="number of initializations")] = 5,
    optimizer: Annotated[str, typer.Option(help="adam or lbfgs")] = "adam",
) -> None:
    parts = rk.dataset("digits").split(seed=0)
    fit_on, test = (part.batch(range(len(part)))["x"].double() for part in parts)
    pca = PCA(dim).fit(fit_on.flatten(1).numpy())
    flat = test.flatten(1).numpy()
    error = np.square(pca.inverse_transform(pca.transform(flat)) - flat).sum(1).mean()
    print(
        f"torch {torch.__version__}, scikit-learn {sklearn.__version__}; {len(fit_on)} / {len(test)} examples"
    )
    print(json.dumps({"model": "PCA", "error": float(error)}))
    for name, decoder in list(DECODERS.items())[: 1 if optimizer == "lbfgs" else 2]:
        for seed in range(seeds):
            model = rk.build(
                data=parts[0], encoder="flat", latent=f"continuous(dim={dim})", decoder=decoder, seed=seed
            )
            if optimizer == "lbfgs":
                train_by_closures(model, parts[0], steps=steps)
            else:
                train(model.double(), {"x": fit_on}, steps=steps, lr=lr)
            with tempfile.TemporaryDirectory() as folder:
                loaded = rk.load(model.save(folder)).double()
            tied = [
                parameter.shape
                for parameter in loaded.factors["code"].adapter.parameters()
                if any(parameter is other for other in loaded.decoder.parameters())
            ]
            found = measure(model, pca, test) | {"weights tied after loading": len(tied)}
            print(json.dumps({"model": name, "seed": seed, **found}), flush=True)


if __name__ == "__main__":
    typer.run(main)
