"""The figures of docs/results/tables.md: five tables with numbers, categories and gaps.

    pip install --no-deps --target tables palmerpenguins==0.1.6 ISLP==0.6.0
    python tests/benchmarks/figures_tables.py tables

Each table is split by seed into train, valid and test (70/10/20 %).  The model is trained on train, its number of steps is
chosen on valid, and it is reported on test.

Nats are -log p(x) of a row's known values: the density of its numbers, standardized by train, and the probability of its
classes.  The model's are the importance-weighted bound with 64 samples.  "independent" has a Gaussian for each number and the
frequencies of the classes.  "PCA" is the Gaussian of probabilistic PCA with four components on standardized numbers and
one-hot classes (Tipping and Bishop 1999), read as a model of the same events: p(class k) = N(one-hot(k)) / Σ_j N(one-hot(j)),
each category given the numbers and the categories before it.

The probe is logistic regression of the label on the four numbers of each code; "all columns" is scikit-learn's pipeline of the
columns themselves: mean imputation, standardization, one-hot classes, logistic regression.
"""

import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import reprkit as rk

NET = {
    "encoder": "mlp(widths=(64, 64))",
    "latent": "gaussian(dim=4)",
    "decoder": "mlp(widths=(64, 64))",
}
STEPS = (300, 600, 1200, 2400)
SIZE = 4
DERIVED = [
    "SalePriceMM",
    "SalePriceCH",
    "PriceDiff",
    "Store7",
    "PctDiscMM",
    "PctDiscCH",
    "ListPriceDiff",
    "STORE",
]
# Table: file, label, columns left out (constants, copies and functions of others), numbers that name a class
TABLES = {
    "Penguins": ("palmerpenguins/data/penguins.csv", "species", ["year"], []),
    "Carseats": ("ISLP/data/Carseats.csv", "ShelveLoc", [], []),
    "OJ": ("ISLP/data/OJ.csv", "Purchase", DERIVED, ["StoreID", "SpecialCH", "SpecialMM"]),
    "Wage": ("ISLP/data/Wage.csv", "education", ["region", "logwage"], []),
    "Auto": ("ISLP/data/Auto.csv", "origin", ["name"], ["cylinders"]),
}


def read(folder, name):
    path, label, dropped, classes = TABLES[name]
    frame = pd.read_csv(folder / path, na_values="?").dropna(subset=[label]).drop(columns=dropped)
    return frame.astype(dict.fromkeys(classes, str)), label


def arrays(part):
    """Return standardized numbers and one-hot classes (n d), which are known (n d), labels (n,), and the columns."""
    batch = part.batch(range(len(part)))
    field = part.signature["x"]
    x, known = (
        batch["x"].double().numpy(),
        batch.get("x_mask", torch.ones_like(batch["x"], dtype=torch.bool)).numpy(),
    )
    for column, elements in field.column_slices:
        if column.kind == "number":
            x[:, elements] = (x[:, elements] - column.mean) / column.std
    return x * known, known, batch["label"].numpy(), field.column_slices


def log_scale(known, slices):
    """Return the mean over rows of the sum of log standard deviations of the known numbers."""
    return sum(
        float(np.log(column.std) * known[:, elements].mean())
        for column, elements in slices
        if column.kind == "number"
    )


def independent(train, test):
    (x, known, _, slices), (z, present, _, _) = train, test
    nats = np.zeros(len(z))
    for column, elements in slices:
        here, there = known[:, elements.start], present[:, elements.start]
        if column.kind == "number":
            values = x[here, elements.start]
            mean, std = values.mean(), values.std()
            own = 0.5 * ((z[:, elements.start] - mean) / std) ** 2 + np.log(std * np.sqrt(2 * np.pi))
        else:
            share = (x[here, elements].sum(0) + 1) / (here.sum() + column.width)
            own = -np.log(share[z[:, elements].argmax(1)])
        nats += own * there
    return float(nats.mean())


def density(x, mean, covariance):
    """Return the log density of each row under a Gaussian."""
    factor = np.linalg.cholesky(covariance)
    scaled = np.linalg.solve(factor, (x - mean).T)
    return -0.5 * (scaled**2).sum(0) - np.log(np.diag(factor)).sum() - 0.5 * len(mean) * np.log(2 * np.pi)


def gaussian(pca, test):
    """Return the nats of the rows under the Gaussian of probabilistic PCA, read as a model of numbers and classes."""
    z, present, _, slices = test
    mean, covariance = pca.mean_, pca.get_covariance() + 1e-9 * np.eye(len(pca.mean_))
    total = np.zeros(len(z))
    for pattern in np.unique(present, axis=0):
        rows = (present == pattern).all(1)
        x = z[rows].copy()
        seen = [e.start for column, e in slices if column.kind == "number" and pattern[e.start]]
        found = density(x[:, seen], mean[seen], covariance[np.ix_(seen, seen)]) if seen else np.zeros(len(x))
        for column, elements in slices:
            if column.kind == "number" or not pattern[elements.start]:
                continue
            truth, seen = x[:, elements].argmax(1), [*seen, *range(elements.start, elements.stop)]
            logits = np.empty((len(x), column.width))
            for number in range(column.width):
                asked = x.copy()
                asked[:, elements] = np.eye(column.width)[number]
                logits[:, number] = density(asked[:, seen], mean[seen], covariance[np.ix_(seen, seen)])
            logits -= logits.max(1, keepdims=True)
            found += (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(len(x)), truth]
        total[rows] = -found
    return float(total.mean())


def probe(codes, labels, test_codes, test_labels):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return model.fit(codes, labels).score(test_codes, test_labels)


def pipeline(frame, parts, label):
    """Return the accuracy of scikit-learn's pipeline of all columns."""
    x, y = frame.drop(columns=label), frame[label]
    numbers = x.select_dtypes("number").columns
    texts = [name for name in x if name not in numbers]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), texts),
    )
    train, test = (part.indices.numpy() for part in (parts[0], parts[2]))
    model = make_pipeline(columns, LogisticRegression(max_iter=2000))
    return model.fit(x.iloc[train], y.iloc[train]).score(x.iloc[test], y.iloc[test])


def bound(model, data):
    return rk.evaluate(model, data, "likelihood(samples=64)", examples=0, progress=False)["likelihood"]["nll"]


def learn(parts, seed):
    """Return the model whose number of steps is best on valid."""
    tried = []
    for steps in STEPS:
        model = rk.build(data=parts[0], seed=seed, **NET)
        rk.fit(model, parts[0], steps=steps, batch=64, lr=2e-3, schedule="cosine", seed=seed, progress=False)
        tried.append((bound(model, parts[1]), steps, model))
    return min(tried, key=lambda each: each[0])[1:]


def figures(frame, label, seed):
    table = rk.data.Table(frame, columns={label: "label"})
    parts = table.split(seed, valid=True)
    train, test = arrays(parts[0]), arrays(parts[2])
    steps, model = learn(parts, seed)
    pca = PCA(SIZE).fit(train[0])
    codes = [rk.embed(model, part, progress=False) for part in (parts[0], parts[2])]
    return {
        "independent": independent(train, test),
        "PCA": gaussian(pca, test),
        "reprkit": bound(model, parts[2]) - log_scale(test[1], test[3]),
        "probe PCA": probe(pca.transform(train[0]), train[2], pca.transform(test[0]), test[2]),
        "probe reprkit": probe(codes[0], train[2], codes[1], test[2]),
        "all columns": pipeline(frame, parts, label),
        "majority": float((test[2] == np.bincount(train[2]).argmax()).mean()),
        "steps": steps,
    }


def main(
    folder: Annotated[Path, typer.Argument(help="The folder of pip install --target.")],
    seeds: Annotated[int, typer.Option(help="Number of seeds, from 10 on.")] = 3,
    only: Annotated[str, typer.Option(help="One table.")] = "",
) -> None:
    torch.set_num_threads(1)
    started = time.process_time()
    for name in TABLES:
        if only not in ("", name):
            continue
        frame, label = read(folder, name)
        rows = [figures(frame, label, seed) for seed in range(10, 10 + seeds)]
        print(rk.data.Table(frame, columns={label: "label"}).summary())
        cells = []
        for key in list(rows[0])[:-1]:
            values = [row[key] for row in rows]
            cells.append(
                f"{statistics.mean(values):.3f} ({statistics.stdev(values) if seeds > 1 else 0:.3f})"
            )
        steps = ", ".join(str(row["steps"]) for row in rows)
        print(f"| {name} | {' | '.join(cells)} | {steps} |", flush=True)
    print(f"{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    typer.run(main)
