"""Contractive autoencoder: penalize the Jacobian of the code, beside a plain and a denoising autoencoder of the same network.

A code that changes little with the data, and still reconstructs it, changes only along the directions in which the data
vary.  The table compares the number of singular values of the code's Jacobian above a tenth of the largest, the squared error,
and the accuracy of k nearest neighbors with few labels; the weight of the penalty and the strength of the noise are those with
the best accuracy on valid.  The last row has the chosen penalty, minimized on all examples at once by L-BFGS instead of
AdamW.  The page draws the singular values.  Before, the penalty is compared with its closed form for one layer of sigmoids
(paper, section 3).

Paper: Rifai et al. 2011, "Contractive auto-encoders: explicit invariance during feature extraction", ICML.
Data: scikit-learn's digits, split 70/10/20 by seed; labels for evaluation only.
Expected (five seeds, one core, a minute each): docs/results/classic/contractive.md.

    python recipes/contractive.py
    python recipes/contractive.py --weights 5 --weights 100 --labels 50
    python recipes/contractive.py --latent "gaussian(dim=32, beta=0.01)"
"""

from typing import Annotated

import numpy as np
import torch
import typer

import reprkit as rk
from reprkit.reporting import Curves, Section, compare
from reprkit.utils.collectives import rank

LBFGS = "lbfgs(max_iter=20, history_size=20, line_search_fn='strong_wolfe')"
COLUMNS = {
    "chosen.strength": "strength, chosen on valid",
    "jacobian.above a tenth": "values above a tenth", "jacobian.norm": "norm", "jacobian.dimension": "effective dimension",
    "reconstruction.error": "error", "knn.accuracy": "k-NN, few labels", "linear-probe.accuracy": "probe",
    "of plain's.above a tenth": "values, of plain's", "over plain.knn": "k-NN, over plain", "over plain.probe": "probe, over plain",
}  # fmt: skip


def singular_values(model: rk.Model, data: rk.Dataset, examples: int = 128) -> torch.Tensor:
    """Singular values of the Jacobian of the code, of evenly spaced examples (n k), largest first."""
    batch = data.batch([number * len(data) // examples for number in range(examples)])
    return torch.linalg.svdvals(model.jacobian(batch)).detach().cpu()


def closed_form_difference(data: rk.Dataset, units: int, seed: int) -> float:
    """Largest relative difference of |J|^2 from sum_j (h_j (1 - h_j))^2 |W_j|^2, for one layer of sigmoids, in float64."""
    latent = f"continuous(dim={units}, activation='sigmoid')"
    model = rk.build(data=data, encoder="flat", latent=latent, decoder="flat", seed=seed).double()
    batch = {"x": data.batch(range(64))["x"].double()}
    ((_, code),), ((_, factor),) = model.encode(batch).items(), model.factors.items()
    low, high = data.signature["x"].range or (-1.0, 1.0)
    weight = factor.adapter.weight * 2 / (high - low)  # encoders scale the field's range to [-1, 1]
    closed = (code.z * (1 - code.z)).square().squeeze(1) @ weight.square().sum(1)
    exact = model.jacobian(batch).square().sum((1, 2))
    return float(((exact - closed).abs() / closed).max().detach())


def main(
    data: str = "digits",
    encoder: str = "mlp(widths=(128,), activation='tanh')",
    latent: str = "continuous(dim=32, activation='sigmoid')",
    decoder: str = "mlp(widths=(128,), activation='tanh', scale=0.3)",
    weights: Annotated[list[float], typer.Option(help="of the penalty; repeatable")] = [20.0, 40.0],  # noqa: B006
    noises: Annotated[list[float], typer.Option(help="deviations of the noise; repeatable")] = [0.1, 0.3],  # noqa: B006
    projections: Annotated[
        int, typer.Option(help="random projections that estimate the penalty; 0: exactly")
    ] = 4,
    labels: Annotated[int, typer.Option(help="labeled examples of k nearest neighbors")] = 100,
    steps: int = 600,
    lbfgs: Annotated[int, typer.Option(help="steps of L-BFGS, 20 iterations each; 0: none")] = 10,
    batch: int = 128,
    lr: float = 5e-3,
    seed: int = 0,
    out: str = "runs/contractive",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", device="cpu"),
) -> None:
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    difference = closed_form_difference(train, 32, seed)
    few = f"knn(k=3, labels={labels})"
    table, curves = {}, {}

    def fit(objective: str, name: str, **changed: object) -> rk.Model:
        parts = {"encoder": encoder, "latent": latent, "decoder": decoder, "objective": objective}
        how = {"steps": steps, "batch": batch, "lr": lr, "seed": seed, "resume": resume, **launch, **changed}
        return rk.fit(rk.build(data=train, seed=seed, **parts), train, out=f"{out}/{name}", **how).model

    def measure(model: rk.Model, name: str, strength: float) -> None:
        values = singular_values(model, test)
        found = table[name] = rk.evaluate(
            model, test, few, "linear-probe", "reconstruction", "jacobian", fit_on=train, leave_out=True
        )
        found["jacobian"]["above a tenth"] = float((values > values[:, :1] / 10).sum(1).double().mean())
        found["chosen"] = {"strength": strength}
        plain = table["plain"]
        found["of plain's"] = {
            "above a tenth": found["jacobian"]["above a tenth"] / plain["jacobian"]["above a tenth"]
        }
        found["over plain"] = {
            "knn": found["knn"]["accuracy"] - plain["knn"]["accuracy"],
            "probe": found["linear-probe"]["accuracy"] - plain["linear-probe"]["accuracy"],
        }
        curves[name] = (np.arange(1, values.shape[1] + 1), values.mean(0).numpy())

    penalty = f"contractive(probes={projections})"
    families = {
        "plain": {0.0: "reconstruction"},
        "denoising": {noise: f"denoising(corruption='gaussian-noise(std={noise:g})')" for noise in noises},
        "contractive": {weight: f"reconstruction + {weight:g} * {penalty}" for weight in weights},
    }
    for family, objectives in families.items():
        tried = []
        for strength, objective in objectives.items():
            model = fit(objective, f"{family}-{strength:g}")
            score = rk.evaluate(model, valid, few, fit_on=train, examples=0)["knn"]["accuracy"]
            tried.append((score, -strength, model))
        _, strength, model = max(tried, key=lambda each: each[:2])  # of equal ones the weakest
        measure(model, family, -strength)
    if lbfgs:
        options = {"optimizer": LBFGS, "steps": lbfgs, "batch": len(train), "lr": 1.0, "schedule": "constant"}
        chosen = families["contractive"][-strength]
        measure(fit(chosen, "lbfgs", **options), "contractive, L-BFGS", -strength)
    title = "Singular values of the code's Jacobian"
    figure = Curves(title=title, lines=curves, xlabel="number", log=True, wide=True)
    verdict = f"Penalty and closed form of one layer of sigmoids differ by {difference:.1e} of it, at most."
    sections = [Section("Jacobian", [figure])]
    page = rk.report(
        out, table, columns=COLUMNS, sections=sections, title="Contractive autoencoder", verdict=verdict
    )
    if rank() == 0:
        print(compare(table, COLUMNS))
        print(f"\n{verdict}\n\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
