"""Units: top examples, their labels and their variance, computed anew."""

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.data import Tensors


def test_top_examples_and_their_numbers(reader, table):
    random = np.random.default_rng(0)
    x = random.normal(size=(90, 4)).astype(np.float32)
    x[:, 2] = 0.5
    label = (x[:, 0] > 0.3).astype(int) + (x[:, 1] > 1.5)
    data = table(x, label)
    results = rk.evaluate(reader(data), data, "units(top=5)", examples=0)
    found = results["units"]
    shares, variances = [], []
    for unit in (0, 1, 3):
        top = sorted(range(90), key=lambda n: -x[n, unit])[:5]
        shares.append(max(list(label[top]).count(value) for value in set(label)) / 5)
        variances.append(sum(np.var(x[top, dim].astype(float)) for dim in range(4)))
    assert found["units"] == 3
    assert found["n"] == 90
    assert found["selectivity"] == pytest.approx(np.mean(shares))
    total = sum(np.var(x[:, dim].astype(float)) for dim in range(4))
    assert found["alike"] == pytest.approx(1 - np.mean(variances) / total, rel=1e-5)
    figures = results.figures["units"]
    widest = int(np.argmax(x.std(0)))
    np.testing.assert_allclose(figures["units"].values, x[np.argsort(-x[:, widest], kind="stable")[:5]])
    assert f"unit {widest}" in figures["units"].title
    assert all(figure.html() for figure in figures.values())


def test_a_code_that_does_not_vary_has_no_units(reader, table):
    data = table(np.ones((20, 3)))
    assert rk.evaluate(reader(data), data, "units", examples=0)["units"] == {"units": 0, "n": 20}


def test_examples_of_different_lengths_and_symbols():
    mask = torch.arange(6) < torch.tensor([6, 2, 3, 1, 4, 5])[:, None]
    words = torch.randint(5, (6, 6)).masked_fill(~mask, 0)
    data = Tensors(
        {"x": words, "x_mask": mask}, rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=5)})
    )
    model = rk.build(data=data, encoder="gru(width=4)", latent="continuous(dim=3)", decoder="gru(width=4)")
    results = rk.evaluate(model, data, "units(top=2, shown=2)", examples=0)
    assert set(results["units"]) == {"units", "n"}
    assert len(results.figures["units"]) >= 2
    assert all(figure.html() for figure in results.figures["units"].values())
