"""The figures of docs/results/contracts/likelihoods.md: tables under `mixed`, and under a Gaussian on one-hot columns.

    python tests/benchmarks/figures_mixed.py                   both tables, five seeds
    python tests/benchmarks/figures_mixed.py --data auto-mpg

Data: Auto MPG (Quinlan 1993, UCI; 392 cars, as mlxtend ships it) and Wine (Forina et al. 1988, UCI; 178 wines, as
scikit-learn ships it), split by seed into train, valid and test (70/10/20 %).  Both likelihoods have the same encoder,
latent, decoder, seed and data.  Each is trained on train; the number of steps is chosen on valid, for each likelihood;
reported on test.

Densities and probabilities cannot be compared, so the Gaussian is read as a model of the same events: a row's numbers
under its own density, and each category under the probability that it gives to this class among the classes,
p(k) = N(one-hot(k)) / Σ_j N(one-hot(j)).  Both are then nats of the same numbers and the same classes.
"""

import csv
import gzip
import math
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import torch
import typer

import reprkit as rk

NET = {
    "encoder": "mlp(widths=(64, 64))",
    "latent": "gaussian(dim=4)",
    "decoder": "mlp(widths=(64, 64), likelihood={!r}{})",
}
LIKELIHOODS = {
    "mixed": ("mixed", ""),
    "gaussian, one scale": ("gaussian", ""),
    "gaussian, each scale": ("gaussian", ", scale='each'"),
}
STEPS = (250, 500, 1000)


def auto_mpg(folder):
    """Write the cars as a table; makes with fewer than five cars are one class."""
    import mlxtend

    path = Path(mlxtend.__file__).parent / "data/data/autompg.csv.gz"
    names = [
        "cylinders",
        "displacement",
        "horsepower",
        "weight",
        "acceleration",
        "year",
        "origin",
        "make",
        "mpg",
    ]
    with gzip.open(path, "rt") as file:
        rows = [[*row[:7], row[7].split()[0], row[8]] for row in csv.reader(file)]
    makes = Counter(row[7] for row in rows)
    rows = [[*row[:7], row[7] if makes[row[7]] > 4 else "other", row[8]] for row in rows]
    return write(folder / "autompg.csv", names, rows), ("cylinders", "year", "origin")


def wine(folder):
    """Write the wines as a table, with the cultivar as a category."""
    from sklearn.datasets import load_wine

    data = load_wine()
    rows = [[*map(str, x), f"cultivar {y}"] for x, y in zip(data.data, data.target, strict=True)]
    return write(folder / "wine.csv", [*data.feature_names, "cultivar"], rows), ()


def write(path, names, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path, names


def nats(model, data):
    """Nats of a row: of its numbers and of its categories, the latter normalized over the classes."""
    batch = data.batch(range(len(data)))
    numbers = categories = 0.0
    with torch.no_grad():
        codes = model.eval().encode(batch)
        scored = model.score(batch, codes)
        decoded, target = scored.decoded, scored.target
        nll = decoded.likelihood.nll(decoded.params, target)
        for column, places in model.output_field.column_slices:
            if column.kind == "number":
                numbers += float(nll[..., places].sum(-1).mean())
                continue
            each = []
            for chosen in torch.eye(column.width):
                other = target.clone()
                other[..., places] = chosen
                each.append(-decoded.likelihood.nll(decoded.params, other)[..., places].sum(-1))
            logits = torch.stack(each, -1)
            truth = target[..., places].argmax(-1, keepdim=True)
            categories -= float(torch.log_softmax(logits, -1).gather(-1, truth).mean())
        kl = float(next(iter(codes.values())).losses["kl"])
    return {"numbers": numbers, "categories": categories, "kl": kl, "all": numbers + categories + kl}


def train(parts, likelihood, scale, seed, steps):
    options = {**NET, "decoder": NET["decoder"].format(likelihood, scale)}
    model = rk.build(data=parts[0], seed=seed, **options)
    rk.fit(model, parts[0], steps=steps, batch=64, lr=2e-3, schedule="cosine", seed=seed, progress=False)
    return model


TABLES = {"auto-mpg": ("Auto MPG", auto_mpg), "wine": ("Wine", wine)}


def main(
    data: Annotated[str, typer.Option(help="auto-mpg, wine or all.")] = "all",
    seeds: Annotated[int, typer.Option(help="Number of seeds, from 10 on.")] = 5,
) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, (title, make) in TABLES.items():
            if data not in ("all", name):
                continue
            (path, names), categories = make(Path(folder))
            table = rk.data.Hub(path, columns={"x": names}, categories=categories)
            found = {each: [] for each in LIKELIHOODS}
            for seed in range(10, 10 + seeds):
                parts = table.split(seed, valid=True)
                for each, (likelihood, scale) in LIKELIHOODS.items():
                    tried = []
                    for steps in STEPS:
                        model = train(parts, likelihood, scale, seed, steps)
                        tried.append((nats(model, parts[1])["all"], steps, model))
                    _, steps, model = min(tried, key=lambda each: each[0])
                    found[each].append({**nats(model, parts[2]), "steps": steps})
            print(
                f"\n{title}: {len(table)} rows, {len(names)} columns, nats a row of test, {seeds} seeds: mean (deviation)"
            )
            print("| likelihood | numbers | categories | KL | −ELBO | steps |\n|---|---|---|---|---|---|")
            for name, rows in found.items():
                cells = []
                for key in ("numbers", "categories", "kl", "all"):
                    values = [row[key] for row in rows]
                    cells.append(
                        f"{statistics.mean(values):.2f} ({statistics.stdev(values) if seeds > 1 else math.nan:.2f})"
                    )
                steps = ", ".join(str(row["steps"]) for row in rows)
                print(f"| {name} | {' | '.join(cells)} | {steps} |")
            gaps = [
                other["all"] - own["all"]
                for name in list(LIKELIHOODS)[1:]
                for own, other in zip(found["mixed"], found[name], strict=True)
            ]
            print(f"smallest lead of mixed over a Gaussian of the same seed: {min(gaps):.2f} nats")


if __name__ == "__main__":
    typer.run(main)
