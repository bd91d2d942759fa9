import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances

import reprkit as rk
from reprkit.data import Tensors
from reprkit.errors import BuildError
from reprkit.evaluation import retrieval as module


class Pair(rk.Objective):
    needs = frozenset({"encoder"})

    def forward(self, model, batch, turn="main"):
        return {"nothing": sum(code.z.sum() for code in model.encode(batch).values()) * 0}


@pytest.fixture
def pair(reader):
    """pair(x, y) -> a model whose factors "image" and "text" have the codes x and y, and its data."""

    def make(x, y):
        values = {"x": torch.as_tensor(x).float(), "words": torch.as_tensor(y).float()}
        fields = {name: rk.Field(kind="vector", shape=(value.shape[1],)) for name, value in values.items()}
        data = Tensors(values, rk.Signature(fields))
        factors = {
            name: rk.factor(
                reader.Reads(values[field].shape[1]), reader.Plain(values[field].shape[1]), input=field
            )
            for name, field in (("image", "x"), ("text", "words"))
        }
        return rk.build(data=data, factors=factors, objective=Pair()), data

    return make


def reference(similarity):
    """Rank of each row's own column, by sorting; ties before it."""
    ranks = []
    for row, values in enumerate(similarity):
        order = sorted(range(len(values)), key=lambda column: (-values[column], column == row))
        ranks.append(order.index(row) + 1)
    return np.array(ranks)


@pytest.mark.parametrize(
    ("metric", "similarity"),
    [
        ("cosine", cosine_similarity),
        ("euclidean", lambda x, y: -euclidean_distances(x, y)),
        ("dot", lambda x, y: x @ y.T),
    ],
)
def test_ranks_by_sorting(pair, metric, similarity, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 7 * 60)  # seven queries at a time
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 5)).astype(np.float32).astype(np.float64)
    y = (x + random.normal(size=x.shape)).astype(np.float32).astype(np.float64)
    model, data = pair(x, y)
    found = rk.evaluate(model, data, f"retrieval(metric='{metric}')")["retrieval"]
    for name, ranks in (
        ("image_to_text", reference(similarity(x, y))),
        ("text_to_image", reference(similarity(y, x))),
    ):
        for k in (1, 5, 10):
            assert found[f"{name}.recall_at_{k}"] == pytest.approx((ranks <= k).mean())
        assert found[f"{name}.median_rank"] == np.median(ranks)
    assert found["n"] == 60
    assert 0 < found["image_to_text.recall_at_1"] < found["image_to_text.recall_at_10"] < 1


def test_a_collapsed_code_finds_nothing(pair):
    model, data = pair(np.ones((20, 3)), np.ones((20, 3)))
    found = rk.evaluate(model, data, "retrieval")["retrieval"]
    assert found["image_to_text.recall_at_10"] == 0
    assert found["image_to_text.median_rank"] == 20


def test_equal_codes_find_all(pair):
    x = np.random.default_rng(0).normal(size=(20, 3))
    model, data = pair(x, 3 * x)
    found = rk.evaluate(model, data, "retrieval(query='text', target='image', at=(1,))")
    assert found["retrieval"] == {
        "text_to_image.recall_at_1": 1.0,
        "text_to_image.median_rank": 1.0,
        "image_to_text.recall_at_1": 1.0,
        "image_to_text.median_rank": 1.0,
        "chance.recall_at_1": 0.05,
        "chance.median_rank": 10.5,
        "n": 20,
    }


def test_the_space_of_the_objective_is_searched():
    """Codes of different widths, aligned only by the objective's maps."""
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    turned = x @ torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    fields = {name: rk.Field(kind="vector", shape=(6,)) for name in ("x", "other")}
    data = Tensors({"x": x, "other": turned}, rk.Signature(fields))
    factors = {
        "one": rk.factor("flat", "continuous(dim=6)"),
        "two": rk.factor("flat", "continuous(dim=5)", input="other"),
    }
    model = rk.build(data=data, factors=factors, objective="across(dim=6)")
    before = rk.evaluate(model, data, "retrieval")["retrieval"]
    rk.fit(model, data, steps=150, batch=40, lr=0.03, log_every=0)
    after = rk.evaluate(model, data, "retrieval")["retrieval"]
    assert before["one_to_two.recall_at_1"] < 0.3
    assert after["one_to_two.recall_at_1"] > 0.9
    vectors = {name: model.joint_vectors(data.batch(range(40)), name, to="numpy") for name in factors}
    np.testing.assert_allclose(np.linalg.norm(vectors["one"], axis=1), 1, rtol=1e-5)
    ranks = reference(cosine_similarity(vectors["two"], vectors["one"]))
    assert after["two_to_one.recall_at_1"] == pytest.approx((ranks == 1).mean())


def test_errors_say_what_is_missing(pair, reader, table):
    data = table(torch.rand(4, 2))
    with pytest.raises(BuildError, match="compares two factors, and the model has code"):
        rk.evaluate(reader(data), data, "retrieval")
    model, data = pair(np.ones((4, 2)), np.ones((4, 3)))
    with pytest.raises(BuildError, match="image has 2 dimensions, text has 3"):
        rk.evaluate(model, data, "retrieval")
    with pytest.raises(BuildError, match="no factor named 'words'; there are: image, text"):
        rk.evaluate(model, data, "retrieval(query='image', target='words')")
