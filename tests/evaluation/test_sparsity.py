import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError


def hoyer(row):
    """Equation 1 of Hoyer 2004, term by term."""
    n = len(row)
    l1, l2 = sum(abs(v) for v in row), sum(v * v for v in row) ** 0.5
    return (n**0.5 - l1 / l2) / (n**0.5 - 1)


def test_known_codes(reader, table):
    rows = [[3.0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [-2, 0.5, 0, 0], [1e-30, 0, 0, 0]]
    found = rk.evaluate(reader(data := table(rows)), data, "sparsity", batch=2)["sparsity"]
    assert found["active"] == pytest.approx(7 / 20)
    assert found["l0"] == pytest.approx(7 / 5)
    assert found["dead"] == 1
    assert found["silent"] == pytest.approx(1 / 5)
    expected = np.mean([hoyer(row) for row in rows[:2] + rows[3:]])
    assert found["hoyer"] == pytest.approx(expected, rel=1e-6)


def test_a_threshold_and_the_figure(reader, table):
    data = table([[0.1, 2.0], [0.3, 0.0], [-0.3, 3.0]])
    results = rk.evaluate(reader(data), data, "sparsity(threshold=0.2)")
    assert results["sparsity"]["active"] == pytest.approx(4 / 6)
    assert results.figures["sparsity"]["active"].values == pytest.approx([2 / 3, 2 / 3])


def test_padding_does_not_count(reader, table):
    x = torch.tensor([[[1.0, 0], [0, 2], [9, 9]], [[1, 0], [9, 9], [9, 9]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    data = table(x, mask=mask)
    found = rk.evaluate(reader(data), data, "sparsity")["sparsity"]
    assert (found["active"], found["hoyer"], found["dead"]) == (0.5, pytest.approx(1.0), 0)


def test_where_hoyer_is_not_defined_it_is_absent(reader, table):
    for rows in ([[0.0, 0.0], [0.0, 0.0]], [[1.0], [2.0]]):
        data = table(rows)
        assert "hoyer" not in rk.evaluate(reader(data), data, "sparsity")["sparsity"]


def test_top_k_has_k_active_units(digits):
    train, test = digits
    model = rk.build(
        data=train, encoder="mlp(widths=(16,))", latent="top-k(dim=12, k=3)", decoder="mlp(widths=(16,))"
    )
    assert rk.evaluate(model, test, "sparsity")["sparsity"]["l0"] == pytest.approx(3, abs=0.2)


def test_a_model_without_encoder_has_no_code(digits):
    train, test = digits
    model = rk.build(data=train, decoder="gru(width=8)", objective="autoregressive")
    with pytest.raises(BuildError, match="no encoder"):
        rk.evaluate(model, test, "sparsity")
