"""The criteria against independent computations, and at their limits."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import StandardScaler

import reprkit as rk
from reprkit.data import Tensors
from reprkit.errors import DataError, PartArgumentError
from reprkit.evaluation.criteria import explained_variance


def sets(x, *labels):
    fields = {"x": rk.Field(kind="vector", shape=(x.shape[1],))}
    values = {"x": torch.as_tensor(x).float()}
    for name, column in zip(("shape", "size"), labels, strict=False):
        values[name] = torch.as_tensor(column)
        fields[name] = rk.Field(kind="label", shape=(), vocab=int(column.max()) + 1)
    return Tensors(values, rk.Signature(fields))


def factors(count=300, seed=0):
    random = np.random.default_rng(seed)
    y = np.stack([random.integers(4, size=count), random.integers(3, size=count)], 1)
    x = np.stack([y[:, 0], 2.0 * y[:, 1], y[:, 0] - y[:, 1]], 1) + 0.2 * random.normal(size=(count, 3))
    return x.astype(np.float32).astype(np.float64), y


def test_the_numbers_of_labels_and_of_the_spectrum(reader):
    (x, y), (test_x, test_y) = factors(), factors(200, 1)
    train, test = sets(x, *y.T), sets(test_x, *test_y.T)
    found = rk.evaluate(reader(train), test, "criteria(draws=2, limit=150)", fit_on=train, examples=0)[
        "criteria"
    ]
    binned = np.stack([np.digitize(c, np.linspace(c.min(), c.max(), 21)[1:-1]) for c in test_x.T], 1)
    shares = [sorted(mutual_info_score(c, b) / mutual_info_score(c, c) for b in binned.T) for c in test_y.T]
    assert found["interpretable"] == pytest.approx(np.mean([s[-1] for s in shares]))
    assert found["disentangled"] == pytest.approx(np.mean([s[-1] - s[-2] for s in shares]))
    chosen = np.random.default_rng(0).permutation(300)[:150]
    scaler = StandardScaler().fit(x[chosen])
    hits = []
    for label, truth in zip(y.T, test_y.T, strict=True):
        probe = LogisticRegression(max_iter=2000).fit(scaler.transform(x[chosen]), label[chosen])
        hits.append(probe.score(scaler.transform(test_x), truth))
    assert found["easy"] == pytest.approx(np.mean(hits))
    singular = np.linalg.svd(test_x, compute_uv=False)
    p = singular / singular.sum() + 1e-7
    assert found["rankme"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)
    singular = np.linalg.svd(test_x - test_x.mean(0), compute_uv=False)
    p = singular / singular.sum()
    rank = np.exp(-(p * np.log(p)).sum())
    assert found["effective_rank"] == pytest.approx(rank, rel=1e-6)
    assert found["compact"] == pytest.approx(1 - rank / 3, rel=1e-6)
    assert 1 < found["lidar"] <= 3
    assert found["alpha_req"] > 0
    assert "explanatory" not in found  # no decoder


def test_explained_variance_is_that_of_pca():
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 6)) * [5, 3, 2, 1, 1, 0.5] + 4
    data = sets(x)
    found = rk.evaluate("pca(dim=2)", data, "criteria(draws=0)", fit_on=data, examples=0)["criteria"]
    values = np.linalg.eigvalsh(np.cov(x.T))
    assert found["explanatory"] == pytest.approx(values[-2:].sum() / values.sum(), rel=1e-4)
    assert set(found) == {"compact", "explanatory", "effective_rank", "rankme", "alpha_req"}


def test_varying_lengths_count_valid_steps():
    """The variance is about each channel's mean over valid steps, and padding does not count."""
    x, mask = torch.randn(6, 5, 2), torch.arange(5) < torch.tensor([5, 2, 3, 1, 4, 5])[:, None]
    data = Tensors(
        {"x": x.masked_fill(~mask[..., None], 9.0), "x_mask": mask},
        rk.Signature({"x": rk.Field(kind="sequence", shape=(None, 2))}),
    )
    model = rk.build(
        data=data, encoder="gru(width=4)", latent="continuous(dim=3)", decoder="gru(width=4, causal=False)"
    ).eval()
    with torch.no_grad():
        scored = model.score(data.batch(range(6)))
    valid, output = x[mask], scored.decoded.x[mask]
    total = (valid - valid.mean(0)).square().sum()
    expected = 1 - float((output - valid).square().sum() / total)
    with torch.no_grad():
        assert explained_variance(model, data) == pytest.approx(expected, rel=1e-4)


def test_a_dead_code_is_worth_nothing(reader):
    _, y = factors(80)
    data = sets(np.ones((80, 3)), *y.T)
    found = rk.evaluate(reader(data), data, "criteria(draws=0)", fit_on=data, examples=0)["criteria"]
    assert found["disentangled"] == found["interpretable"] == pytest.approx(0, abs=1e-9)
    assert found["effective_rank"] == 0
    assert "alpha_req" not in found
    assert found["easy"] == pytest.approx(np.mean([np.bincount(c).max() / 80 for c in y.T]))


def test_errors_say_what_is_missing(reader):
    x, y = factors(40)
    data = sets(x, *y.T)
    with pytest.raises(DataError, match="pass evaluate"):
        rk.evaluate(reader(data), data, "criteria")
    with pytest.raises(DataError, match="no label field color; the data has shape, size"):
        rk.evaluate(reader(data), data, "criteria(labels=('color',))", fit_on=data)
    with pytest.raises(PartArgumentError, match="draws=0 omits it"):
        rk.create("evaluator", "criteria(draws=1)")
