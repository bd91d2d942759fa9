"""Equality with disentanglement_lib, on the same codes, digit for digit.

disentanglement_lib needs TensorFlow 1, so its functions are written anew here from its source (google-research/disentanglement_lib,
disentanglement_lib/evaluation/metrics, Apache 2.0, Locatello et al. 2019): mig.py, sap_score.py, dci.py, factor_vae.py, irs.py and
utils.py.  As there, codes and labels are (dimensions, examples).
"""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.svm import LinearSVC

import reprkit as rk
from reprkit.data import Tensors
from reprkit.evaluation.disentanglement import (
    count_votes,
    dci_completeness,
    dci_disentanglement,
    interventional_robustness,
    mutual_information_gap,
    separated_predictability,
    vote_accuracy,
)

# ------------------------------------------------------------------------ the library's functions


def histogram_discretize(target, bins):  # utils._histogram_discretize
    return np.stack([np.digitize(row, np.histogram(row, bins)[1][:-1]) for row in target])


def compute_mig(mus, ys, bins=20):  # mig.compute_mig
    discretized = histogram_discretize(mus, bins)
    m = np.array([[sklearn.metrics.mutual_info_score(y, mu) for y in ys] for mu in discretized])
    entropy = np.array([sklearn.metrics.mutual_info_score(y, y) for y in ys])
    ordered = np.sort(m, axis=0)[::-1]
    return np.mean((ordered[0] - ordered[1]) / entropy)


def compute_sap(mus, ys, mus_test, ys_test, seed):  # sap_score.compute_sap, continuous_factors=False
    scores = np.zeros((len(mus), len(ys)))
    for i in range(len(mus)):
        for j in range(len(ys)):
            classifier = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
            classifier.fit(mus[i, :, np.newaxis], ys[j])
            scores[i, j] = np.mean(classifier.predict(mus_test[i, :, np.newaxis]) == ys_test[j])
    ordered = np.sort(scores, axis=0)
    return np.mean(ordered[-1] - ordered[-2])


def compute_importance_gbt(x, y, x_test, y_test, **options):  # dci.compute_importance_gbt
    importance, accuracy = np.zeros((len(x), len(y))), []
    for i in range(len(y)):
        model = GradientBoostingClassifier(**options).fit(x.T, y[i])
        importance[:, i] = np.abs(model.feature_importances_)
        accuracy.append(np.mean(model.predict(x_test.T) == y_test[i]))
    return importance, np.mean(accuracy)


def disentanglement(importance):  # dci.disentanglement
    per_code = 1.0 - scipy.stats.entropy(importance.T + 1e-11, base=importance.shape[1])
    if importance.sum() == 0.0:
        importance = np.ones_like(importance)
    return np.sum(per_code * importance.sum(axis=1) / importance.sum())


def completeness(importance):  # dci.completeness
    per_factor = 1.0 - scipy.stats.entropy(importance + 1e-11, base=importance.shape[0])
    if importance.sum() == 0.0:
        importance = np.ones_like(importance)
    return np.sum(per_factor * importance.sum(axis=0) / importance.sum())


def evaluate_votes(batches, global_variances, factors, dims):
    """factor_vae._generate_training_batch, for representations and factors that were drawn before."""
    votes = np.zeros((factors, dims), dtype=np.int64)
    for factor, representations in batches:
        local = np.var(representations, axis=0, ddof=1)
        votes[factor, np.argmin(local / global_variances)] += 1
    return votes


def accuracy_of_votes(training_votes, eval_votes):  # factor_vae.compute_factor_vae
    classifier = np.argmax(training_votes, axis=0)
    other_index = np.arange(training_votes.shape[1])
    return np.sum(eval_votes[classifier, other_index]) * 1.0 / np.sum(eval_votes)


def compute_irs(mus, ys, quantile=0.99, bins=20):  # irs.compute_irs
    factors, latents = histogram_discretize(ys, bins).T, mus[mus.var(axis=1) > 0.0].T
    if not latents.any():
        return 0.0
    largest = np.max(np.abs(latents - latents.mean(axis=0)), axis=0)
    deviations = np.zeros((latents.shape[1], factors.shape[1]))
    for i in range(factors.shape[1]):
        values = np.unique(factors[:, i])
        for value in values:
            match = factors[:, i] == value
            diffs = np.abs(latents[match] - np.mean(latents[match], axis=0))
            deviations[:, i] += np.quantile(diffs, q=quantile, axis=0)
        deviations[:, i] /= len(values)
    scores = (1.0 - deviations / largest[:, np.newaxis]).max(axis=1)
    return np.average(scores, weights=largest) if largest.sum() > 0 else np.mean(scores)


# ------------------------------------------------------------------------ equality


def codes(kind, count=400, seed=0):
    """Codes (n d) and labels (n k) that are disentangled, mixed, or have dimensions that do not vary."""
    random = np.random.default_rng(seed)
    y = np.stack([random.integers(size, size=count) for size in (3, 6, 16)], 1)
    noise = random.normal(size=(count, 5))
    if kind == "disentangled":
        x = np.concatenate([y + 0.3 * noise[:, :3], noise[:, 3:]], 1)
    else:
        x = (y - y.mean(0)) @ random.normal(size=(3, 5)) + 0.5 * noise
    if kind == "collapsed":
        x[:, 1:3] = 0.0
    return x.astype(np.float32).astype(np.float64), y


KINDS = pytest.mark.parametrize("kind", ["disentangled", "mixed", "collapsed"])


@KINDS
def test_mig_and_irs(kind):
    x, y = codes(kind)
    assert mutual_information_gap(x, y, 20) == compute_mig(x.T, y.T)
    assert mutual_information_gap(x, y, 7) == compute_mig(x.T, y.T, bins=7)
    assert interventional_robustness(x, y) == pytest.approx(compute_irs(x.T, y.T), rel=1e-12)


@KINDS
def test_sap(kind):
    (x, y), (test_x, test_y) = codes(kind, 120), codes(kind, 100, seed=1)
    found = separated_predictability(x, y, test_x, test_y, C=0.01, seed=3)
    assert found == compute_sap(x.T, y.T, test_x.T, test_y.T, seed=3)


def test_dci_of_any_importance():
    random = np.random.default_rng(0)
    for importance in (random.random((5, 3)), np.eye(3), np.zeros((4, 2)), np.diag([1.0, 0.0, 2.0])):
        assert dci_disentanglement(importance) == pytest.approx(disentanglement(importance), abs=1e-12)
        assert dci_completeness(importance) == pytest.approx(completeness(importance), abs=1e-12)


@KINDS
def test_votes_and_their_accuracy(kind):
    """Of the same batches; a dimension that does not vary gets no vote, where the library's division gives nan."""
    x, y = codes(kind)
    overall = x.var(0, ddof=1)
    random = np.random.default_rng(5)
    parts = []
    for _ in range(2):
        labels = random.integers(3, size=50)
        rows = np.stack([random.choice(np.flatnonzero(y[:, k] == y[0, k]), 64) for k in labels])
        parts.append((labels, rows))
    moving = overall > 0
    expected = [
        evaluate_votes(((k, x[row][:, moving]) for k, row in zip(*part, strict=True)), overall[moving], 3, moving.sum())
        for part in parts
    ]  # fmt: skip
    found = [count_votes(x, overall, *part, labels=3) for part in parts]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine[moving], theirs.T)
        assert mine[~moving].sum() == 0
    assert vote_accuracy(*found) == accuracy_of_votes(*expected)


@pytest.mark.slow
def test_the_evaluator_is_the_library(reader):
    """All measures that the evaluator reports of a data set, with the seeds that it gives to trees and machines."""
    sets, rows = [], []
    for seed in (0, 1):
        x, y = codes("mixed", 200, seed)
        fields = {"x": rk.Field(kind="vector", shape=(5,))}
        values = {"x": torch.from_numpy(x).float()}
        for number, size in enumerate((3, 6, 16)):
            fields[f"factor{number}"] = rk.Field(kind="label", shape=(), vocab=size)
            values[f"factor{number}"] = torch.from_numpy(y[:, number])
        sets.append(Tensors(values, rk.Signature(fields)))
        rows += [x.T, y.T]
    results = rk.evaluate(
        reader(sets[0]), sets[1], "disentanglement(trees=4, votes=50)", fit_on=sets[0], examples=0
    )["disentanglement"]
    x, y, test_x, test_y = rows
    assert results["mig"] == compute_mig(test_x, test_y)
    assert results["irs"] == pytest.approx(compute_irs(test_x, test_y), rel=1e-12)
    assert results["sap"] == compute_sap(x, y, test_x, test_y, seed=0)
    importance, accuracy = compute_importance_gbt(x, y, test_x, test_y, n_estimators=4, random_state=0)
    assert results["dci"]["disentanglement"] == pytest.approx(disentanglement(importance), rel=1e-12)
    assert results["dci"]["completeness"] == pytest.approx(completeness(importance), rel=1e-12)
    assert results["dci"]["informativeness"] == accuracy
