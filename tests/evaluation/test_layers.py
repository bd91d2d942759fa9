"""Layers and similarity against independent computations."""

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import DataError
from reprkit.evaluation.activations import activations
from reprkit.evaluation.linear_probe import fit_probe
from reprkit.evaluation.similarity import linear_cka


def hsic_cka(x, y):
    """Kornblith et al. 2019, eqs. 3 and 4, with the centering matrix."""
    n = len(x)
    center = np.eye(n) - np.ones((n, n)) / n
    one, two = x @ x.T, y @ y.T

    def hsic(a, b):
        return np.trace(a @ center @ b @ center) / (n - 1) ** 2

    return hsic(one, two) / np.sqrt(hsic(one, one) * hsic(two, two))


@pytest.mark.parametrize("widths", [(4, 3), (40, 7)])
def test_linear_cka_is_that_of_the_gram_matrices(widths):
    random = np.random.default_rng(0)
    x = random.normal(size=(20, widths[0])) + 1
    y = x[:, :3] @ random.normal(size=(3, widths[1])) + random.normal(size=(20, widths[1]))
    expected = hsic_cka(x, y)
    assert linear_cka(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected, rel=1e-9)


def test_linear_cka_does_not_see_rotation_and_scale():
    x = torch.randn(50, 4, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    assert linear_cka(x, 3 * x @ turn + 2) == pytest.approx(1)
    assert linear_cka(x, x * torch.tensor([1.0, 5.0, 0.1, 1.0])) < 0.95
    assert linear_cka(x, torch.ones(50, 2)) == 0.0
    with pytest.raises(DataError, match="the same of both: 50 and 49"):
        linear_cka(x, x[1:])


def test_each_layer_has_its_probe_and_spectrum(table):
    random = np.random.default_rng(0)
    label = random.integers(3, size=120)
    x = random.normal(size=(120, 5)) + label[:, None]
    train, test = table(x[:80], label[:80]), table(x[80:], label[80:])
    model = rk.build(
        data=train, encoder="mlp(widths=(8, 6))", latent="continuous(dim=2)", decoder="mlp(widths=(8,))"
    )
    results = rk.evaluate(model, test, "layers", fit_on=train, examples=0)
    found, rows, known = results["layers"], activations(model.eval(), test), activations(model, train)
    assert list(found) == list(rows)
    for name, values in rows.items():
        probe = fit_probe(known[name], label[:80])
        assert found[name]["accuracy"] == pytest.approx((probe.predict(values) == label[80:]).mean())
        singular = np.linalg.svd(values.astype(np.float64), compute_uv=False)
        p = singular / singular.sum() + 1e-7
        assert found[name]["rankme"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-5)
    figures = results.figures["layers"]
    similarity = figures["similarity"].values
    np.testing.assert_allclose(np.diag(similarity), 1)
    layers = list(rows.values())
    assert similarity[0, -1] == pytest.approx(
        hsic_cka(layers[0].astype(float), layers[-1].astype(float)), rel=1e-5
    )
    assert {"accuracy", "similarity", "map 0"} <= set(figures)
    assert all(figure.html() for figure in figures.values())


def test_without_labels_there_is_no_probe(table):
    data = table(np.random.default_rng(0).normal(size=(30, 4)))
    model = rk.build(
        data=data, encoder="mlp(widths=(6,))", latent="continuous(dim=2)", decoder="mlp(widths=(6,))"
    )
    found = rk.evaluate(model, data, "layers", examples=0)
    assert all(set(layer) == {"rankme"} for layer in found["layers"].values())
    labeled = table(np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 2)
    with pytest.raises(DataError, match="pass evaluate"):
        rk.evaluate(model, labeled, "layers")
