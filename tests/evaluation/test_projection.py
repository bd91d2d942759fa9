import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

import reprkit as rk
from reprkit.errors import PartArgumentError
from reprkit.evaluation.projection import Projection


def test_principal_components_match_scikit_learn(digits):
    train, test = digits
    x = test.batch(range(len(test)))["x"].flatten(1).double().numpy()
    pca = PCA(2, svd_solver="full").fit(x)
    results = rk.evaluate("raw", test, "projection(tsne=False)", fit_on=train)
    assert results["projection"] == {
        "explained": pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-5)
    }
    drawn = results.figures["projection"]["pca"]
    assert np.abs(drawn.points) == pytest.approx(np.abs(pca.transform(x)), abs=1e-4)
    assert (drawn.labels == test.batch(range(len(test)))["label"].numpy()).all()


@pytest.mark.slow
def test_maps_depend_on_the_seed_only(digits):
    train, test = digits
    first, again, other = (
        rk.evaluate("pca(dim=8)", test, f"projection(limit=60, seed={seed})", fit_on=train, seed=call)
        for seed, call in ((1, 0), (1, 5), (2, 0))
    )
    points = [each.figures["projection"]["tsne"].points for each in (first, again, other)]
    assert points[0].shape == (60, 2)
    assert (points[0] == points[1]).all()
    assert first["projection"] == again["projection"]
    assert not np.allclose(points[0], points[2])
    assert first["projection"]["trustworthiness"] > 0.8


def test_clusters_stay_apart(reader, table):
    centres = torch.eye(3).repeat_interleave(20, 0) * 20
    data = table(
        centres + torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), torch.arange(60) // 20
    )
    drawn = rk.evaluate(reader(data), data, "projection").figures["projection"]["tsne"]
    middles = np.stack([drawn.points[drawn.labels == each].mean(0) for each in range(3)])
    within = max(drawn.points[drawn.labels == each].std() for each in range(3))
    between = min(np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert between > 2 * within


@pytest.mark.parametrize("width", [1, 2])
def test_narrow_and_repeated_codes_can_be_drawn(width, reader, table):
    data = table(torch.randint(0, 2, (30, width), generator=torch.Generator().manual_seed(0)).float())
    results = rk.evaluate(reader(data), data, "projection")
    assert results["projection"]["explained"] == pytest.approx(1.0)
    assert np.isfinite(results.figures["projection"]["tsne"].points).all()
    assert results.figures["projection"]["tsne"].labels is None


def test_a_collapsed_code_is_drawn_as_one_point(reader, table):
    data = table(torch.ones(10, 3))
    results = rk.evaluate(reader(data), data, "projection")
    assert results["projection"] == {"explained": 0.0}
    assert set(results.figures["projection"]) == {"pca"}


def test_very_few_examples(reader, table):
    data = table(torch.rand(5, 3))
    assert np.isfinite(
        rk.evaluate(reader(data), data, "projection").figures["projection"]["tsne"].points
    ).all()


@pytest.mark.parametrize("arguments", [{"limit": 3}, {"perplexity": 1.0}, {"pool": "max"}, {"seed": -1}])
def test_arguments_are_checked(arguments):
    with pytest.raises(PartArgumentError, match="^evaluator Projection: .* must be"):
        Projection(**arguments)
