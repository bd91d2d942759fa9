import numpy as np
import pytest

from reprkit.utils.exact_probabilities import GRID, logits_to_edges
from reprkit.utils.symbol_coder import PRECISION


def test_probabilities_are_those_of_the_rounded_logits():
    logits = np.random.default_rng(0).normal(0, 5, (50, 90))
    edges = logits_to_edges(logits)
    assert (edges[:, 0] == 0).all()
    assert (edges[:, -1] == 2**PRECISION).all()
    probabilities = np.diff(edges) / 2**PRECISION
    rounded = np.exp(np.floor(logits * GRID + 0.5) / GRID)
    expected = rounded / rounded.sum(1, keepdims=True)
    assert np.diff(edges).min() >= 1
    np.testing.assert_allclose(probabilities, expected, atol=2e-5, rtol=1e-4)
    # Rounding costs next to nothing: the divergence from the exact probabilities, in nats.
    exact = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert (exact * np.log(exact / probabilities)).sum(1).mean() < 3e-5


@pytest.mark.parametrize("error", [1e-13, 1e-6])
def test_rounding_errors_and_shifts_of_logits_do_not_change_the_probabilities(error):
    generator = np.random.default_rng(1)
    steps = generator.integers(-400, 400, (20, 30))
    logits = (steps + generator.uniform(-0.4, 0.4, steps.shape)) / GRID
    noisy = logits + generator.uniform(-error, error, steps.shape) + 3.0
    assert (logits_to_edges(logits) == logits_to_edges(noisy)).all()


def test_symbols_of_almost_no_probability_can_be_coded():
    edges = logits_to_edges(np.array([[0.0, -1e5, -200.0, 1e4]]))
    assert (np.diff(edges) >= 1).all()
    assert np.diff(edges)[0, 3] == 2**PRECISION - 3
