import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.manifold import trustworthiness

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.evaluation.manifold import local_dimension


class Bent(rk.Encoder):
    """A fixed linear map, and an elementwise square where ``bend`` is 1."""

    def __init__(self, weight, bend=0.0):
        super().__init__()
        self.out_dim = weight.shape[0]
        self.register_buffer("weight", torch.as_tensor(weight).float())
        self.bend = bend

    def forward(self, batch, *, keep=None):
        x = batch["x"] @ self.weight.T
        return rk.Features(x=(x + self.bend * x**2).unsqueeze(1), grid=(1,), length=1)

    def count(self, batch):
        return 1

    def grid(self, batch):
        return (1,)


@pytest.fixture
def mapped(reader):
    """mapped(data, weight, bend) -> a model whose code is that function of the data."""

    def make(data, weight, bend=0.0):
        encoder = Bent(np.asarray(weight), bend)
        return rk.build(
            data=data, encoder=encoder, latent=reader.Plain(encoder.out_dim), objective=reader.Nothing()
        )

    return make


def ranks_reference(x, y, k):
    """Trustworthiness by its definition (Venna and Kaski 2001), with loops: x the data, y the map."""
    n = len(x)
    total = 0
    for i in range(n):
        near_x = sorted((j for j in range(n) if j != i), key=lambda j: np.linalg.norm(x[i] - x[j]))
        near_y = sorted((j for j in range(n) if j != i), key=lambda j: np.linalg.norm(y[i] - y[j]))
        for j in near_y[:k]:
            total += max(0, near_x.index(j) + 1 - k)
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * total


def test_neighborhoods_by_their_definition(mapped, table):
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    data = table(x)
    found = rk.evaluate(mapped(data, np.eye(3)[:1]), data, "manifold(k=4)")["manifold"]
    assert found["trustworthiness"] == pytest.approx(ranks_reference(x, x[:, :1], 4))
    assert found["continuity"] == pytest.approx(ranks_reference(x[:, :1], x, 4))
    assert found["trustworthiness"] == pytest.approx(trustworthiness(x, x[:, :1], n_neighbors=4))
    assert (
        found["trustworthiness"] < found["continuity"] < 1
    )  # a projection tears nothing apart, and puts far points together


def test_the_same_points_keep_all_neighbors(mapped, table):
    data = table(np.random.default_rng(0).normal(size=(30, 3)))
    found = rk.evaluate(mapped(data, 2 * np.eye(3)), data, "manifold(k=5)")["manifold"]
    assert found["trustworthiness"] == found["continuity"] == 1
    assert found["dimension"] == pytest.approx(found["data_dimension"], rel=1e-5)


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_local_dimension_of_a_flat_sheet(dim):
    random = np.random.default_rng(0)
    sheet = random.normal(size=(1500, dim)) @ np.linalg.qr(random.normal(size=(8, dim)))[0].T
    assert local_dimension(sheet, 10) == pytest.approx(dim, rel=0.08)


def test_local_dimension_by_its_definition():
    x = np.random.default_rng(1).normal(size=(25, 3))
    inverses = []
    for i in range(25):
        t = sorted(np.linalg.norm(x[i] - x[j]) for j in range(25) if j != i)[:6]
        inverses.append(sum(np.log(t[5] / t[j]) for j in range(5)) / 5)
    assert local_dimension(x, 6) == pytest.approx(1 / np.mean(inverses))
    assert local_dimension(np.zeros((10, 2)), 3) == 0.0


def test_tangents_against_principal_angles(mapped, table):
    random = np.random.default_rng(0)
    x = random.normal(size=(30, 6)).astype(np.float32)
    weight = random.normal(size=(3, 6)).astype(np.float32)
    data = table(x)
    model = mapped(data, weight, 0.3)
    found = rk.evaluate(model, data, "manifold(k=8, tangents=2, examples=12)")["manifold"]
    cosines = []
    for i in (number * 30 // 12 for number in range(12)):
        near = x[np.argsort(((x - x[i]) ** 2).sum(1), kind="stable")[1:9]].astype(np.float64)
        local = np.linalg.svd(near - near.mean(0))[2][:2]
        jacobian = np.diag(1 + 0.6 * (weight @ x[i])) @ weight
        leading = np.linalg.svd(jacobian.astype(np.float64))[2][:2]
        cosines.append(np.cos(subspace_angles(local.T, leading.T)).mean())
    assert found["tangent_cosine"] == pytest.approx(np.mean(cosines), abs=1e-4)
    assert 0.3 < found["tangent_chance"] < 0.7


def test_a_code_that_follows_the_sheet_has_its_tangents(mapped, table):
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(10, 2)))[0]
    data = table(random.normal(size=(80, 2)) @ basis.T)
    along = rk.evaluate(mapped(data, basis.T), data, "manifold(k=6, tangents=2)")["manifold"]
    across = rk.evaluate(
        mapped(data, np.linalg.qr(basis, mode="complete")[0][:, 2:4].T), data, "manifold(k=6, tangents=2)"
    )["manifold"]
    assert along["tangent_cosine"] == pytest.approx(1, abs=1e-4)
    assert across["tangent_cosine"] < 0.05


def test_a_draw_of_the_examples(mapped, table):
    data = table(np.random.default_rng(0).normal(size=(50, 3)))
    found = rk.evaluate(mapped(data, np.eye(3)), data, "manifold(k=3, limit=20)")["manifold"]
    assert found["n"] == 20


def test_errors_say_what_is_missing(mapped, reader, table):
    data = table(torch.rand(12, 2))
    with pytest.raises(DataError, match=r"manifold\(k=10\) needs over 20 examples, and there are 12"):
        rk.evaluate(reader(data), data, "manifold")
    with pytest.raises(BuildError, match="that of a discrete latent has no derivative"):
        rk.evaluate(reader(data, reader.Given((2, 2))), data, "manifold(k=3, tangents=1)")
    with pytest.raises(PartArgumentError, match="at most k=3 tangents, not 4"):
        rk.create("evaluator", "manifold(k=3, tangents=4)")
    varying = table(torch.rand(30, 4, 2), mask=torch.ones(30, 4, dtype=torch.bool))
    with pytest.raises(DataError, match="real values of one shape; field x is sequence"):
        rk.evaluate(reader(varying), varying, "manifold(k=3)")
