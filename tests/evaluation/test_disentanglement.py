"""The measures against their formulas, written anew with loops over dimensions and labels."""

import math
from collections import Counter

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier

import reprkit as rk
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit.evaluation.disentanglement import (
    dci_completeness,
    dci_disentanglement,
    interventional_robustness,
    mutual_information_gap,
    separated_predictability,
)


def labels(count, seed=0):
    random = np.random.default_rng(seed)
    return np.stack([random.integers(4, size=count), random.integers(3, size=count)], 1)


def noisy(y, seed=1, noise=0.3):
    """Codes of three dimensions: one for each label, and one of both."""
    random = np.random.default_rng(seed)
    x = np.stack([y[:, 0], 2.0 * y[:, 1], y[:, 0] - y[:, 1]], 1)
    return (x + noise * random.normal(size=x.shape)).astype(np.float32).astype(np.float64)


@pytest.fixture
def sets(reader):
    """sets(x, y) -> a data set with the labels "shape" and "size"."""

    def make(x, y):
        import torch

        fields = {"x": rk.Field(kind="vector", shape=(x.shape[1],))}
        values = {"x": torch.as_tensor(x).float()}
        for name, column in zip(("shape", "size"), y.T, strict=True):
            values[name] = torch.as_tensor(column)
            fields[name] = rk.Field(kind="label", shape=(), vocab=int(column.max()) + 1)
        return Tensors(values, rk.Signature(fields))

    return make


def entropy(symbols):
    counts = Counter(symbols)
    return -sum(n / len(symbols) * math.log(n / len(symbols)) for n in counts.values())


def test_mutual_information_gap():
    y = labels(300)
    x = noisy(y)
    gaps = []
    for label in range(2):
        known = []
        for dim in range(3):
            low, high = x[:, dim].min(), x[:, dim].max()
            bins = [min(int((value - low) / (high - low) * 20), 19) for value in x[:, dim]]
            column = y[:, label].tolist()
            joint = entropy(list(zip(bins, column, strict=True)))
            known.append(entropy(bins) + entropy(column) - joint)
        known.sort()
        gaps.append((known[-1] - known[-2]) / entropy(y[:, label].tolist()))
    assert mutual_information_gap(x, y, 20) == pytest.approx(np.mean(gaps))


def test_interventional_robustness():
    y = labels(300)
    x = noisy(y)
    scores, weights = [], []
    for dim in range(3):
        z = x[:, dim]
        best, largest = -math.inf, max(abs(z - z.mean()))
        for label in range(2):
            deviations = []
            for value in set(y[:, label]):
                group = z[y[:, label] == value]
                sizes = sorted(abs(group - group.mean()))
                place = 0.99 * (len(sizes) - 1)  # linear interpolation between order statistics
                below = int(place)
                deviations.append(sizes[below] + (place - below) * (sizes[below + 1] - sizes[below]))
            best = max(best, 1 - np.mean(deviations) / largest)
        scores.append(best)
        weights.append(largest)
    assert interventional_robustness(x, y) == pytest.approx(np.dot(scores, weights) / sum(weights))
    assert interventional_robustness(np.ones((300, 2)), y) == 0.0


def test_dci_of_known_importances():
    importance = np.array([[0.8, 0.0], [0.1, 0.1], [0.1, 0.9]])

    def clear(row):
        shares = [value / sum(row) for value in row]
        return 1 + sum(share * math.log(share, len(row)) for share in shares if share > 0)

    rows = [0.8, 0.2, 1.0]
    expected = sum(weight / 2 * clear(row) for weight, row in zip(rows, importance, strict=True))
    assert dci_disentanglement(importance) == pytest.approx(expected, abs=1e-8)
    assert dci_completeness(importance) == pytest.approx(np.mean([clear(c) for c in importance.T]), abs=1e-8)
    assert dci_disentanglement(np.eye(3)) == dci_completeness(np.eye(3)) == pytest.approx(1, abs=1e-8)
    assert dci_disentanglement(np.zeros((3, 2))) == 0.0


def test_separated_predictability():
    """With two values of each label the machine's decision is a threshold: the best dimensions predict all and half of it."""
    random = np.random.default_rng(0)
    y = random.integers(2, size=(400, 2))
    x = np.stack([4.0 * y[:, 0] - 2, 4.0 * y[:, 1] - 2, random.normal(size=400)], 1)
    # Dimensions 0 and 1 tell one label and nothing of the other; the accuracy of the second best is that of a guess.
    found = separated_predictability(x[:300], y[:300], x[300:], y[300:], C=0.01, seed=0)
    assert found == pytest.approx(0.5, abs=0.08)
    both = separated_predictability(
        x[:300][:, [0, 0, 1, 1]], y[:300], x[300:][:, [0, 0, 1, 1]], y[300:], C=0.01, seed=0
    )
    assert both == 0.0


def test_the_evaluator_on_known_codes(sets, reader):
    y, test_y = labels(200), labels(150, seed=5)
    train, test = sets(noisy(y), y), sets(noisy(test_y, seed=6), test_y)
    results = rk.evaluate(reader(train), test, "disentanglement(trees=5, votes=300)", fit_on=train)
    found, x, test_x = results["disentanglement"], noisy(y), noisy(test_y, seed=6)
    assert found["mig"] == pytest.approx(mutual_information_gap(test_x, test_y, 20))
    assert found["irs"] == pytest.approx(interventional_robustness(test_x, test_y))
    trees = [GradientBoostingClassifier(n_estimators=5, random_state=0).fit(x, column) for column in y.T]
    importance = np.stack([each.feature_importances_ for each in trees], 1)
    assert results.figures["disentanglement"]["importance"].values == pytest.approx(importance.T)
    assert found["dci"]["disentanglement"] == pytest.approx(dci_disentanglement(importance))
    accuracy = np.mean([each.score(test_x, c) for each, c in zip(trees, test_y.T, strict=True)])
    assert found["dci"]["informativeness"] == pytest.approx(accuracy)
    assert (
        found["factor_vae"] > 0.95
    )  # dimension 0 is quiet where the shape is fixed, and 1 where the size is


def votes(x, y, overall, draws):
    """The votes of Kim and Mnih 2018, one at a time."""
    random, counted = np.random.default_rng(7), Counter()
    for _ in range(draws):
        label = random.integers(y.shape[1])
        value = random.choice(y[:, label])
        rows = random.choice(np.flatnonzero(y[:, label] == value), 64)
        variances = [np.var(x[rows, dim], ddof=1) / overall[dim] for dim in range(x.shape[1])]
        counted[int(np.argmin(variances)), int(label)] += 1
    return counted


def test_the_majority_vote(sets, reader):
    """A code that is not disentangled: the score agrees with other draws of the same votes."""
    y = labels(400)
    random = np.random.default_rng(2)
    x = (np.stack([y[:, 0] + y[:, 1], y[:, 0] - y[:, 1]], 1) + 0.8 * random.normal(size=(400, 2))).astype(
        np.float32
    )
    data = sets(x, y)
    found = rk.evaluate(reader(data), data, "disentanglement(trees=0, votes=1500)", fit_on=data, examples=0)
    counted = votes(x.astype(np.float64), y, x.astype(np.float64).var(0, ddof=1), 1500)
    majority = [max(range(2), key=lambda label: counted[dim, label]) for dim in range(2)]
    expected = sum(counted[dim, label] for dim, label in enumerate(majority)) / 1500
    assert found["disentanglement"]["factor_vae"] == pytest.approx(expected, abs=0.05)
    assert 0.4 < expected < 0.9


def test_what_does_not_vary(sets, reader):
    y = labels(60)
    x = np.ones((60, 2))
    data = sets(x, y)
    found = rk.evaluate(reader(data), data, "disentanglement(trees=0, votes=10)", fit_on=data)[
        "disentanglement"
    ]
    assert found == {"mig": pytest.approx(0), "sap": 0, "factor_vae": 0, "irs": 0}


def test_errors_say_what_is_missing(sets, reader, table):
    y = labels(20)
    data = sets(noisy(y), y)
    with pytest.raises(DataError, match="pass evaluate\\(..., fit_on=train"):
        rk.evaluate(reader(data), data, "disentanglement")
    one = table(noisy(y), y[:, 0])
    with pytest.raises(
        DataError, match="two label fields or more, the factors of variation; the data has label"
    ):
        rk.evaluate(reader(one), one, "disentanglement", fit_on=one)
    with pytest.raises(DataError, match="the data has shape, size, not color"):
        rk.evaluate(reader(data), data, "disentanglement(labels=('shape', 'color'))", fit_on=data)
    constant = sets(noisy(y), y * [1, 0])
    with pytest.raises(DataError, match="every label 'size' is 0, so nothing varies"):
        rk.evaluate(reader(constant), constant, "disentanglement", fit_on=constant)
    narrow = sets(noisy(y)[:, :1], y)
    with pytest.raises(DataError, match="compares dimensions of the code, and it has one"):
        rk.evaluate(reader(narrow), narrow, "disentanglement", fit_on=narrow)


def test_the_limit_draws_examples_of_each_set(sets, reader):
    y, test_y = labels(200), labels(150, seed=5)
    train, test = sets(noisy(y), y), sets(noisy(test_y, seed=6), test_y)
    found = rk.evaluate(
        reader(train), test, "disentanglement(trees=0, votes=10, limit=60, seed=4)", fit_on=train, examples=0
    )["disentanglement"]
    chosen = np.sort(np.random.default_rng(4).choice(150, 60, replace=False))
    expected = mutual_information_gap(noisy(test_y, seed=6)[chosen], test_y[chosen], 20)
    assert found["mig"] == pytest.approx(expected)
