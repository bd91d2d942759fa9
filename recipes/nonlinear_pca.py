"""Nonlinear PCA: an autoencoder with a code of two and of eight numbers, beside PCA of the same width, on handwritten digits.

PCA is the best linear map to that few numbers; a network with hidden layers may bend the plane.  The table compares the squared
error of an example and the accuracy of k nearest neighbors on the code.  The page draws the codes of two dimensions, PCA's and
the network's, what the network decodes on a grid over its code, and how k nearest neighbors do on each layer of the encoder.
The 1,257 training images are few for a network of 400,000 weights; noise on the input keeps it from learning them by heart.

Papers: Kramer 1991, "Nonlinear principal component analysis using autoassociative neural networks", AIChE Journal 37(2); Hinton
and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks", Science 313.
Data: scikit-learn's digits, split 70/10/20 by seed; labels for evaluation only, and not needed.
Expected (five seeds, one core, under a minute each): 0.47 of PCA's error with two numbers and 0.44 with eight, k nearest neighbors
.931 against .635 with two; docs/results/classic/nonlinear_pca.md.

    python recipes/nonlinear_pca.py
    python recipes/nonlinear_pca.py --data mnist --dims 2
    python recipes/nonlinear_pca.py --latent "gaussian(dim={dim}, beta=0.1)" --seed 0 --seed 1
    python recipes/nonlinear_pca.py --data rows.npy --dims 3
"""

from typing import Annotated

import numpy as np
import typer
from sklearn.neighbors import KNeighborsClassifier

import reprkit as rk
from reprkit.evaluation import activations, baseline
from reprkit.reporting import Bars, Images, Scatter, Section, compare
from reprkit.utils.collectives import rank


def codes_of(title: str, model: rk.Model, data: rk.Dataset) -> Scatter:
    """The codes of two numbers, colored by label if there is one."""
    labels = data.label_values("label").numpy() if "label" in data.signature.label_fields() else None
    return Scatter(title=title, points=rk.embed(model, data), labels=labels)


def decoded_grid(model: rk.Model, data: rk.Dataset, side: int = 12) -> Images:
    """The images that the model decodes on a grid over the middle 96 % of the codes, the second number upwards."""
    (left, low), (right, high) = np.quantile(rk.embed(model, data), (0.02, 0.98), axis=0)
    across = np.linspace(left, right, side, dtype=np.float32)
    rows = {
        f"{y:.1f}": model.decode(np.stack([across, np.full_like(across, y)], 1), to="numpy")
        for y in np.linspace(high, low, side)
    }
    return Images(title="What the network decodes on a grid over its code", rows=rows)


def score_layers(model: rk.Model, train: rk.Dataset, test: rk.Dataset) -> dict[str, float]:
    """The accuracy of five nearest neighbors on the values of the data and on the output of each layer."""
    labels = [part.label_values("label").numpy() for part in (train, test)]
    known, new = (
        {"input": rk.embed(baseline("raw", train), part)} | activations(model, part) for part in (train, test)
    )
    scores, before = {}, None
    for name, values in known.items():
        if before is None or not np.array_equal(
            values, before
        ):  # a layer may do nothing in evaluation, as dropout
            scores[name] = KNeighborsClassifier().fit(values, labels[0]).score(new[name], labels[1])
        before = values
    return scores


def main(
    data: str = "digits",
    dims: Annotated[list[int], typer.Option(help="width of the code; repeat the flag for more")] = [2, 8],  # noqa: B006
    encoder: str = "mlp(widths=(512, 256, 128), activation='relu')",
    latent: Annotated[str, typer.Option(help="with {dim} for its width")] = "continuous(dim={dim})",
    decoder: str = "mlp(widths=(128, 256, 512), activation='relu')",
    objective: str = "denoising(corruption='gaussian-noise(std=0.1)')",
    steps: int = 1_500,
    batch: int = 128,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/nonlinear_pca",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", device="cpu"),
) -> None:
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    labeled = "label" in train.signature.label_fields()
    measures = ["reconstruction", "knn"] if labeled else ["reconstruction"]
    table, sections = {}, []
    for dim in dims:
        pca = baseline(f"pca(dim={dim})", train)
        linear = rk.evaluate(pca, test, *measures, fit_on=train)
        parts = {"encoder": encoder, "latent": latent.format(dim=dim), "decoder": decoder}
        model = rk.build(data=train, objective=objective, seed=seed, **parts)
        run = rk.fit(
            model, train, valid=valid, evaluate_every=500, steps=steps, batch=batch, lr=lr, seed=seed,
            out=f"{out}/{dim}", resume=resume, **launch,
        )  # fmt: skip
        own = rk.evaluate(run.model, test, *measures, fit_on=train)
        own["against PCA"] = {
            "error ratio": own["reconstruction"]["error"] / linear["reconstruction"]["error"]
        }
        figures: list = []
        if labeled:
            own["against PCA"]["knn gain"] = own["knn"]["accuracy"] - linear["knn"]["accuracy"]
            own["layers"] = scores = score_layers(run.model, train, test)
            title = "k nearest neighbors by layer of the encoder"
            figures += [
                Bars(
                    title=title, values=np.array(list(scores.values())), names=list(scores), ylabel="accuracy"
                )
            ]
        if dim == 2:
            figures += [codes_of("The network's codes", run.model, test), codes_of("PCA's codes", pca, test)]
            if train.signature["x"].kind == "image":
                figures += [decoded_grid(run.model, train)]
        sections.append(Section(f"A code of {dim} numbers", figures))
        table |= {f"PCA, {dim}": linear, f"network, {dim}": own}
    page = rk.report(out, table, sections=sections, title="Nonlinear PCA")
    if rank() == 0:
        print(compare(table))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
