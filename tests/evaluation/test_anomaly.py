import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

import reprkit as rk
from reprkit.data import Table
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.evaluation import anomaly_scores
from reprkit.evaluation.anomaly import Anomaly
from reprkit.types import Code, Decoded


class Says(rk.Decoder):
    """The code as it is, with unit variance."""

    def __init__(self, width):
        super().__init__()
        self.in_dim, self.likelihood = width, "gaussian"

    def forward(self, features, *, teacher=None, length=None):
        params = {"mean": features.x, "log_scale": torch.zeros(1, 1, 1)}
        return Decoded(x=features.x, likelihood="gaussian", params=params, grid=features.grid)


class Clipped(rk.Latent):
    """The features, clipped to [-1, 1]: what lies outside has an error."""

    has_prior = True

    def __init__(self, width):
        super().__init__(in_dim=width, out_dim=width)

    def forward(self, features):
        return Code.of(features, z=features.x.clamp(-1, 1))

    def prior(self, shape, generator=None):
        return torch.randn(*shape, self.out_dim, generator=generator)

    def log_prior(self, code):
        return -code.z.square().sum(-1)


@pytest.fixture
def clipped(reader):
    """clipped(data) -> a model that reproduces what lies in [-1, 1]."""

    def make(data):
        width = data.signature["x"].shape[-1]
        return rk.build(data=data, encoder=reader.Reads(width), latent=Clipped(width), decoder=Says(width))

    return make


def rows(count=200, seed=0):
    """Rows of three values, the second half of them anomalies of a wider spread; and their labels."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 3)) * np.where(np.arange(count) < count // 2, 1.0, 2.0)[:, None]
    return x.astype(np.float32), np.arange(count) * 2 // count


def error(x):
    return np.square(x.astype(np.float64) - x.clip(-1, 1)).sum(1)


def split_rows(labels, seed, held_out):
    """The rows that are evaluated, and those that are held out."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(labels == 0))
    held = order[: round(held_out * len(order))]
    return np.setdiff1d(np.arange(len(labels)), held), held


def reference(scores, labels, *, quantile=0.95, held_out=0.5, seed=0, at=None):
    """Every metric by its definition: pairs, sums over the ranking, shares."""
    evaluated, held = split_rows(labels, seed, held_out)
    threshold = np.quantile(scores[held], quantile)
    s, y = scores[evaluated], labels[evaluated] == 1
    pairs = (s[y][:, None] > s[~y][None]).mean() + 0.5 * (s[y][:, None] == s[~y][None]).mean()
    precision, recall, area = [], [0.0], 0.0
    for value in np.unique(s)[::-1]:
        chosen = s >= value
        precision.append(y[chosen].mean())
        recall.append(y[chosen].sum() / y.sum())
        area += (recall[-1] - recall[-2]) * precision[-1]
    at = at or y.sum()
    return {
        "roc_auc": pairs,
        "average_precision": area,
        "precision_at_k": y[np.argsort(-s, kind="stable")[:at]].mean(),
        "threshold": threshold,
        "recall": (s[y] > threshold).mean(),
        "false_positive_rate": (s[~y] > threshold).mean(),
        "anomalies": y.sum(),
        "normal": (~y).sum(),
        "held_out": len(held),
    }


def test_error_and_all_metrics(clipped, table):
    x, labels = rows()
    data = table(x, labels)
    found = rk.evaluate(clipped(data), data, "anomaly(score='error')", batch=33)["anomaly"]
    assert found == pytest.approx(reference(error(x), labels), rel=1e-5)
    assert 0.6 < found["roc_auc"] < 1
    options = "score='error', quantile=0.8, held_out=0.3, seed=4, at=7"
    found = rk.evaluate(clipped(data), data, f"anomaly({options})")["anomaly"]
    assert found == pytest.approx(
        reference(error(x), labels, quantile=0.8, held_out=0.3, seed=4, at=7), rel=1e-5
    )


def test_the_threshold_holds_for_other_normal_rows(clipped, table):
    x, labels = rows(4000)
    data = table(x, labels)
    found = rk.evaluate(clipped(data), data, "anomaly(score='error', quantile=0.9)")["anomaly"]
    assert found["false_positive_rate"] == pytest.approx(0.1, abs=0.03)
    assert found["recall"] > 0.3


def test_likelihood_and_prior(clipped, table):
    x, labels = rows()
    data = table(x, labels)
    nll = -norm.logpdf(x.astype(np.float64), x.clip(-1, 1)).sum(1)
    found = rk.evaluate(clipped(data), data, "anomaly")["anomaly"]
    assert found == pytest.approx(reference(nll, labels), rel=1e-4)
    code = np.square(x.clip(-1, 1).astype(np.float64)).sum(1)
    found = rk.evaluate(clipped(data), data, "anomaly(score='code-nll')")["anomaly"]
    assert found == pytest.approx(reference(code, labels), rel=1e-4)


def test_neighbors_among_the_normal_examples_of_fit_on(reader, table):
    x, labels = rows()
    known, known_labels = rows(60, seed=1)
    data, fit_on = table(x, labels), table(known, known_labels)
    found = rk.evaluate(reader(data), data, "anomaly(score='neighbors', k=3)", fit_on=fit_on)["anomaly"]
    normal = known[known_labels == 0].astype(np.float64)
    scores = np.array(
        [np.sort(np.linalg.norm(row - normal, axis=1))[:3].mean() for row in x.astype(np.float64)]
    )
    assert found == pytest.approx(reference(scores, labels), rel=1e-5)


def test_error_under_noise_is_that_of_the_clean_example(clipped, table):
    x, labels = rows(40)
    data = table(x, labels)
    model = clipped(data)
    noise = "score='error-under-noise', corruption='gaussian-noise(std=0.5)', draws=40"
    found = rk.evaluate(model, data, f"anomaly({noise})")["anomaly"]
    drawn = np.random.default_rng(0).normal(size=(1000, *x.shape)) * 0.5
    scores = np.square((x + drawn).clip(-1, 1) - x).sum(2).mean(0)
    assert found["threshold"] == pytest.approx(reference(scores, labels)["threshold"], rel=0.15)
    assert rk.evaluate(model, data, f"anomaly({noise})")["anomaly"] == found
    assert rk.evaluate(model, data, f"anomaly({noise}, seed=1)")["anomaly"] != found


def test_which_labels_are_normal(clipped, table):
    x, labels = rows()
    data = table(x, labels)
    one = rk.evaluate(clipped(data), data, "anomaly(score='error', normal=(0,))")["anomaly"]
    other = rk.evaluate(clipped(data), data, "anomaly(score='error', normal=(1,))")["anomaly"]
    assert one["roc_auc"] > 0.6 > 0.4 > other["roc_auc"]
    with pytest.raises(DataError, match=r"label 'label' in \(0, 1\).* one other; the data has 200 and 0"):
        rk.evaluate(clipped(data), data, "anomaly(normal=(0, 1))")


def test_errors_say_what_is_missing(clipped, reader, table, digits):
    x, labels = rows(20)
    data = table(x, labels)
    with pytest.raises(DataError, match="neighbors among fit_on"):
        rk.evaluate(reader(data), data, "anomaly(score='neighbors')")
    with pytest.raises(DataError, match="needs 50 neighbors, but fit_on has 10 normal"):
        rk.evaluate(reader(data), data, "anomaly(score='neighbors', k=50)", fit_on=data)
    with pytest.raises(DataError, match="no label field 'kind'"):
        rk.evaluate(clipped(data), data, "anomaly(label='kind')")
    with pytest.raises(BuildError, match="factor code has no prior"):
        rk.evaluate(reader(data), data, "anomaly(score='code-nll')")
    with pytest.raises(BuildError, match="no decoder"):
        rk.evaluate(reader(data), data, "anomaly")
    for argument, score in (
        ("prior='folder'", "code-nll"),
        ("k=3", "neighbors"),
        ("draws=2", "error-under-noise"),
        ("corruption='dropout'", "error-under-noise"),
    ):
        name = argument.partition("=")[0]
        with pytest.raises(PartArgumentError, match=f"takes {name}= with score='{score}' only"):
            rk.create("evaluator", f"anomaly(score='nll', {argument})")


@pytest.mark.slow
def test_a_digit_that_was_not_trained_on_is_found():
    whole = rk.dataset("digits")
    labels = whole.batch(range(len(whole)))["label"]
    train, test = whole.split(seed=0)
    known = train.batch(range(len(train)))["label"]
    normal = train.subset(torch.nonzero(known != 1).flatten(), part="without ones")
    model = rk.build(
        data=normal,
        encoder="mlp(widths=(64,))",
        latent="continuous(dim=8)",
        decoder="mlp(widths=(64,))",
        seed=0,
    )
    model = rk.fit(model, normal, steps=400, batch=64, lr=2e-3, progress=False, seed=0).model
    others = tuple(int(label) for label in labels.unique() if label != 1)
    found = rk.evaluate(model, test, f"anomaly(score='error', normal={others})", fit_on=normal)["anomaly"]
    assert found["roc_auc"] > 0.7


def test_normal_classes_by_name(clipped):
    x, labels = rows()
    frame = pd.DataFrame(x, columns=list("abc")).assign(label=np.array(["usual", "odd"])[labels])
    data = Table(frame, columns={"label": "label"})
    model = clipped(data)
    named = rk.evaluate(model, data, "anomaly(score='code-nll', normal=('usual',))")["anomaly"]
    assert named == rk.evaluate(model, data, "anomaly(score='code-nll', normal=(1,))")["anomaly"]
    assert named != rk.evaluate(model, data, "anomaly(score='code-nll', normal=('odd',))")["anomaly"]
    with pytest.raises(DataError, match=r"no class 'usuall'\. Did you mean 'usual'\?\n  known: odd, usual"):
        rk.evaluate(model, data, "anomaly(normal=('usuall',))")


def test_numbers_of_classes_without_names(clipped, table):
    x, labels = rows()
    data = table(x, labels)
    by_text = rk.evaluate(clipped(data), data, "anomaly(normal=('0',))")["anomaly"]
    assert by_text == rk.evaluate(clipped(data), data, "anomaly(normal=(0,))")["anomaly"]
    with pytest.raises(DataError, match="no class 'usual': its classes have numbers only"):
        rk.evaluate(clipped(data), data, "anomaly(normal=('usual',))")


def test_scores_of_another_detector_are_measured_alike():
    x, labels = rows()
    found = Anomaly(quantile=0.8, seed=4).measure(error(x), labels == 1)
    found.pop("figures")
    assert found == pytest.approx(reference(error(x), labels, quantile=0.8, seed=4), rel=1e-6)


def test_every_example_of_fit_on_is_normal(reader, table):
    """Without ``normal=``, the labels of fit_on do not select."""
    x, labels = rows(20)
    known, _ = rows(60, seed=1)
    model = reader(table(x, labels))
    other = np.full(60, 3)
    found = anomaly_scores(model, table(x, labels), "neighbors", fit_on=table(known, other), k=3)
    wanted = [np.sort(np.linalg.norm(row - known, axis=1))[:3].mean() for row in x.astype(np.float64)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    with pytest.raises(DataError, match="fit_on has 0 normal"):
        anomaly_scores(model, table(x, labels), "neighbors", fit_on=table(known, other), normal=(0,))
