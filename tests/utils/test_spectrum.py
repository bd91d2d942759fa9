"""Spectral measures against NumPy and SciPy, on known spectra, and at their limits."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from reprkit.errors import DataError
from reprkit.utils.spectrum import alpha_req, lidar, rankme


def with_spectrum(deviations, n=400, seed=0):
    """Rows with exactly these standard deviations (of n, mean 0) along a random rotation."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(n, len(deviations)))
    rows = np.linalg.qr(rows - rows.mean(0))[0] * np.sqrt(n)
    turn = np.linalg.qr(random.normal(size=(len(deviations), len(deviations))))[0]
    return rows * np.asarray(deviations) @ turn


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
def test_rankme_is_that_of_the_published_implementations(shape):
    x = np.random.default_rng(1).normal(size=shape) + 2
    singular = scipy.linalg.svdvals(x)
    shares = singular / singular.sum() + 1e-7  # as in decalmlutils and stable-pretraining
    expected = np.exp(-np.sum(shares * np.log(shares)))
    assert rankme(torch.from_numpy(x)) == pytest.approx(expected, rel=1e-12)


def test_rankme_of_known_spectra():
    assert rankme(torch.from_numpy(with_spectrum([2.0] * 6))) == pytest.approx(6, rel=1e-5)
    assert rankme(torch.from_numpy(with_spectrum([1.0, 1.0, 0.0]))) == pytest.approx(2, rel=1e-4)
    assert rankme(torch.ones(9, 4)) == pytest.approx(1, rel=1e-4)  # it is not centered
    assert rankme(torch.zeros(9, 4)) == 0.0


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.5])
def test_alpha_of_power_laws(alpha):
    deviations = np.arange(1, 21) ** (-alpha / 2)
    assert alpha_req(torch.from_numpy(with_spectrum(deviations))) == pytest.approx(alpha, abs=1e-9)


def test_alpha_is_the_weighted_regression_of_stringer():
    x = np.random.default_rng(2).normal(size=(60, 12)) * np.linspace(3, 0.2, 12) + 1
    values = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    for first, last in ((1, 12), (3, 9)):
        place = np.arange(first, last + 1)
        # numpy multiplies residuals, not their squares, by w
        slope = np.polyfit(np.log(place), np.log(values[first - 1 : last]), 1, w=np.sqrt(1 / place))[0]
        assert alpha_req(torch.from_numpy(x), first, last) == pytest.approx(-slope, rel=1e-9)
    assert alpha_req(torch.from_numpy(x)) == alpha_req(torch.from_numpy(x), 1, 12)


def test_lidar_is_that_of_linear_discriminant_analysis():
    random = np.random.default_rng(3)
    x = random.normal(size=(30, 1, 6)) * [3, 2, 1, 1, 0.5, 0.1] + random.normal(size=(30, 7, 6)) * 0.3
    between = np.cov(x.mean(1).T, bias=True)
    about = (x - x.mean(1, keepdims=True)).reshape(-1, 6)
    within = about.T @ about / len(about) + 1e-4 * np.eye(6)
    values = scipy.linalg.eigh(between, within, eigvals_only=True)
    shares = values / values.sum() + 1e-7
    expected = np.exp(-np.sum(shares * np.log(shares)))
    assert lidar(torch.from_numpy(x)) == pytest.approx(expected, rel=1e-9)


def test_lidar_counts_what_tells_examples_apart():
    means = with_spectrum([1.0] * 3)
    noise = with_spectrum([1.0] * 3, n=1200, seed=1).reshape(400, 3, 3) * 0.01
    signal = np.concatenate(
        [means[:, None] + noise, 5 * np.random.default_rng(0).normal(size=(400, 3, 4))], -1
    )
    assert lidar(torch.from_numpy(signal)) == pytest.approx(
        3, rel=0.02
    )  # four dimensions of noise do not count
    assert rankme(torch.from_numpy(signal.reshape(-1, 7))) > 5
    assert lidar(torch.ones(5, 3, 4)) == 0.0


def test_errors_say_what_is_missing():
    with pytest.raises(DataError, match="two vectors"):
        rankme(torch.ones(1, 3))
    with pytest.raises(DataError, match="not finite"):
        alpha_req(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))
    with pytest.raises(DataError, match="two eigenvalues"):
        alpha_req(torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]))
    with pytest.raises(DataError, match="two views"):
        lidar(torch.ones(5, 1, 4))
