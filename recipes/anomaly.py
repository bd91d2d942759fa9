"""Anomaly detection: an autoencoder of normal examples only, and five scores that are larger for unusual ones.

The model sees normal examples of the training part alone.  The table has the scores of the evaluator ``anomaly`` (squared error,
-log p(x | z), -log p(z), the error from a corrupted copy, the distance to the nearest normal codes) beside an isolation forest
and a one-class support vector machine on the same split.  The threshold is a quantile of normal test examples that were held out:
recall and false alarms are those of the others.  The page says of the most unusual examples which columns make them so, in the
table's own units; of pictures it draws what each pixel adds.

Papers: Hawkins et al. 2002, "Outlier detection using replicator neural networks", DaWaK; An & Cho 2015, "Variational
autoencoder based anomaly detection using reconstruction probability"; Liu et al. 2008 (isolation forest); Schölkopf et al. 2001
(one-class SVM).
Data: 569 tumors of scikit-learn, benign ones normal, split 50/20/30 by seed; other data by --data and --normal.
Expected: ROC area of "nll" .95 on this split.  Over ten splits with settings chosen on valid .953, isolation forest .958, one-class
SVM .963, and the lowest mean rank of four detectors on eight sets (tests/benchmarks/figures_anomaly.py):
docs/results/classic/anomaly.md.

    python recipes/anomaly.py
    python recipes/anomaly.py --latent "gaussian(dim=8)"            # has a prior: code-nll too
    python recipes/anomaly.py --data faces --normal face --corruption "gaussian-noise(std=1.2)"
    python recipes/anomaly.py --data "credit-card(path='creditcard.csv')" --normal genuine
    python recipes/anomaly.py --data "kdd99(path='kddcup.data_10_percent.gz')" --normal normal
"""

from typing import Annotated, Literal

import numpy as np
import typer

import reprkit as rk
from reprkit.evaluation.anomaly import Anomaly, class_numbers
from reprkit.reporting import Section, Table
from reprkit.utils.collectives import rank

TABLE_DECODER = "mlp(widths=(128, 128), likelihood='mixed')"  # a scale of each column
DECODER = "mlp(widths=(128, 128), likelihood=\"gaussian(scale='each')\")"  # a scale of each pixel or element
METRICS = {
    "roc_auc": "max", "average_precision": "max", "precision_at_k": "max", "recall": "max", "false_positive_rate": "min"
}  # fmt: skip


def forest_and_svm(train: rk.Dataset, test: rk.Dataset, seed: int) -> dict[str, np.ndarray]:
    """The scores of scikit-learn's detectors, fitted on standardized values: name -> (n,), larger for unusual ones."""
    from sklearn.ensemble import IsolationForest
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import OneClassSVM

    known, rows = (part.batch(range(len(part)))["x"].flatten(1).double().numpy() for part in (train, test))
    detectors = {"isolation forest": IsolationForest(random_state=seed), "one-class SVM": OneClassSVM(nu=0.1)}
    return {
        name: -make_pipeline(StandardScaler(), detector).fit(known).score_samples(rows)
        for name, detector in detectors.items()
    }


def main(
    data: str = "breast-cancer",
    normal: Annotated[
        list[str], typer.Option(help="a class of normal examples; repeat the flag for more")
    ] = ["benign"],  # noqa: B006
    encoder: str = "mlp(widths=(128, 128))",
    latent: str = "continuous(dim=64)",
    decoder: Annotated[
        str, typer.Option(help="empty: one with a scale of each column, pixel or element")
    ] = "",
    corruption: Annotated[
        str, typer.Option(help="of training, and of the score error-under-noise")
    ] = "gaussian-noise(std=1.0)",
    explain: Annotated[
        Literal["nll", "error", "error-under-noise"], typer.Option(help="the score that the page explains")
    ] = "nll",
    quantile: Annotated[
        float, typer.Option(help="share of held-out normal examples below the threshold")
    ] = 0.95,
    unusual: Annotated[int, typer.Option(help="examples that the page explains")] = 6,
    steps: int = 400,
    batch: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/anomaly",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True, test_share=0.3, valid_share=0.2)
    numbers = class_numbers(train.signature["label"], normal)
    usual = train.subset(
        np.flatnonzero(np.isin(train.label_values("label").numpy(), numbers)).tolist(), part="normal, train"
    )
    decoder = decoder or (TABLE_DECODER if usual.signature["x"].columns else DECODER)
    options = f"normal={tuple(numbers)}, quantile={quantile}"
    noise = f"anomaly(score='error-under-noise', corruption={corruption!r}, draws=20, {options})"
    scores = {
        name: f"anomaly(score={name!r}, {options})" for name in ("error", "nll", "code-nll", "neighbors")
    }

    model = rk.build(
        data=usual,
        encoder=encoder,
        latent=latent,
        decoder=decoder,
        objective=f"denoising(corruption={corruption!r})",
        seed=seed,
    )
    for step in rk.loop(
        model,
        usual,
        steps=steps,
        batch=min(batch, len(usual)),
        lr=lr,
        seed=seed,
        out=out,
        resume=resume,
        **launch,
    ):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(max(1, steps // 4)):
            step.log(losses, rk.evaluate(model, valid, scores["nll"], fit_on=usual, examples=0))
    model.save(f"{out}/model")

    results = rk.evaluate(model, test, *scores.values(), noise, fit_on=usual, leave_out=True)
    judge = Anomaly(normal=tuple(numbers), quantile=quantile)
    anomalous = ~np.isin(test.label_values("label").numpy(), numbers)
    for name, found in forest_and_svm(usual, test, seed).items():
        results[name] = {
            key: value for key, value in judge.measure(found, anomalous).items() if key != "figures"
        }
    table = Table(
        list(METRICS),
        {name: [found[key] for key in METRICS] for name, found in results.items() if "roc_auc" in found},
        METRICS,
    )
    more = {"corruption": corruption, "draws": 20} if explain == "error-under-noise" else {}
    found = rk.evaluation.anomaly_scores(model, test, explain, **more)
    highest = np.argsort(-found)[:unusual]
    why = rk.evaluation.anomaly_contributions(model, test.subset(highest.tolist()), explain, **more)
    titles = [
        f"test example {index}, {'an anomaly' if anomalous[index] else 'normal'}: {explain} {found[index]:.4g}"
        for index in highest
    ]
    sections = [
        Section("Scores", [table]),
        Section(f"The most unusual test examples by {explain}", why.blocks(titles)),
    ]
    page = rk.report(out, results, title="Anomaly detection", sections=sections)
    if rank() == 0:
        print(table)
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
