"""Classes of color, data to color, objective colorization, and evaluator recoloring, against plain computations."""

import builtins
import sys

import numpy as np
import pytest
import torch
from reprkit_vision.color_classes import (
    annealed_mean,
    class_centers,
    class_weights,
    nearest_classes,
    smooth_prior,
    soft_encode,
)
from reprkit_vision.colorable import colorable
from reprkit_vision.efficientnet_lite import load_classifier, load_network
from reprkit_vision.lab import color_bins, pool, to_lab
from reprkit_vision.recoloring import (
    choose_temperature,
    color_auc,
    enlarge_colors,
    predict_colors,
    recolor,
    summarize_seeds,
)

import reprkit as rk
from reprkit.data import Arrays
from reprkit.errors import BuildError, DataError
from reprkit.testing import EvaluatorConformance, ObjectiveConformance

pytest.importorskip("skimage")
CENTERS = class_centers()


def smooth_pictures(count=6, side=16, seed=0):
    """Pictures of large patches of color (n side side 3), with labels."""
    rng = np.random.default_rng(seed)
    rough = rng.random((count, 2, 2, 3), np.float32)
    return Arrays({"x": rough.repeat(side // 2, 1).repeat(side // 2, 2), "label": np.arange(count) % 2})


def small_model(data, output="color_classes", objective="colorization", latent="continuous(dim=8)"):
    return rk.build(
        data=data,
        factors={"code": rk.factor("conv(width=8, depth=1)", latent, input="lightness")},
        decoder={output: rk.output("conv(width=8, depth=0)")},
        objective=objective,
        seed=0,
    )


@pytest.mark.slow
class TestColorization(ObjectiveConformance):
    part = "reprkit-vision/colorization"


class TestRecoloring(EvaluatorConformance):
    part = "reprkit-vision/recoloring"
    latents = ("continuous(dim=4)", "vq(codes=8, dim=4)")

    def sets(self):
        return colorable(smooth_pictures(12), size=16, pictures=True).split()

    def models(self, train):
        for latent in self.latents:
            yield latent, small_model(train, latent=latent).eval()


def test_classes_are_the_papers():
    assert CENTERS.shape == (313, 2)
    assert {(-90, 50), (100, 0), (0, 0), (60, -110), (0, 100)} <= set(map(tuple, CENTERS))
    assert set(map(tuple, color_bins())) < set(map(tuple, CENTERS))  # every color of a screen is in a bin


def test_the_nearest_class_is_nearest():
    colors = to_lab(np.random.default_rng(0).random((1, 40, 50, 3), np.float32))[0, ..., 1:]
    distance = np.linalg.norm(colors[..., None, :] - CENTERS, axis=-1)
    assert (nearest_classes(colors) == distance.argmin(-1)).all()
    assert tuple(CENTERS[nearest_classes(np.array([-128.0, 128.0]))]) == (-90, 90)


def test_soft_encoding_is_a_gaussian_over_five_bins():
    color = torch.tensor([[3.0, -4.0], [81.0, 67.0]])
    found = soft_encode(color)
    assert found.shape == (2, 313)
    for row, each in zip(found.numpy(), color.numpy(), strict=True):
        distance = np.linalg.norm(CENTERS - each, axis=-1)
        near = distance.argsort()[:5]
        weight = np.exp(-(distance[near] ** 2) / 50)
        expected = np.zeros(313)
        expected[near] = weight / weight.sum()
        np.testing.assert_allclose(row, expected, atol=1e-6)
    assert soft_encode(torch.zeros(2, 3, 2), 1).sum((0, 1)).nonzero().tolist() == [
        [int(nearest_classes(np.zeros(2)))]
    ]


def test_rare_classes_weigh_more():
    counts = np.zeros(313, int)
    gray, red = nearest_classes(np.array([[0, 0], [80, 60]]))
    counts[[gray, red]] = 990, 10
    prior = smooth_prior(counts.tolist())
    assert prior.sum() == pytest.approx(1)
    neighbor = nearest_classes(np.array([10, 0]))
    assert prior[neighbor] == pytest.approx(prior[gray] * np.exp(-2), rel=1e-3)  # one bin of 10 away, sigma 5
    weight = class_weights(counts.tolist())
    assert prior @ weight == pytest.approx(1)
    expected = (0.5 * prior[gray] + 0.5 / 313) / (0.5 * prior[red] + 0.5 / 313)
    assert weight[red] / weight[gray] == pytest.approx(expected)
    np.testing.assert_allclose(class_weights(counts.tolist(), 1.0), 1)


def test_annealed_mean_lies_between_mean_and_mode():
    shares = np.zeros(313)
    one, two = nearest_classes(np.array([[0, 0], [50, 0]]))
    shares[[one, two]] = 0.4, 0.6
    logits = torch.from_numpy(np.log(shares + 1e-30))[None]
    assert annealed_mean(logits, 1.0)[0].tolist() == pytest.approx([30, 0], abs=1e-3)
    assert annealed_mean(logits, 0.01)[0].tolist() == pytest.approx([50, 0], abs=1e-3)
    power = np.array([0.4, 0.6]) ** (1 / 0.38)
    assert annealed_mean(logits)[0, 0].item() == pytest.approx(50 * power[1] / power.sum(), rel=1e-4)


def test_pictures_are_prepared():
    data = smooth_pictures()
    found = colorable(data, size=8, side=4, pictures=True)
    x, batch = data.batch(range(6))["x"].numpy(), found.batch(range(6))
    lab = to_lab(pool(x, 2))
    np.testing.assert_allclose(100 * batch["lightness"][..., 0], lab[..., 0], atol=1e-4)
    np.testing.assert_allclose(128 * batch["color"], pool(lab[..., 1:], 4), atol=1e-4)
    assert (batch["color_classes"].numpy() == nearest_classes(128 * batch["color"].numpy())).all()
    assert batch["label"].tolist() == [0, 1, 0, 1, 0, 1]
    assert sum(found.signature["color_classes"].counts) == 6 * 4
    joined = colorable(data, smooth_pictures(3, 8), size=8, mirror=True)
    assert len(joined) == 2 * (6 + 3)
    assert (joined.batch([6])["lightness"] == batch["lightness"][:1].flip(2)).all()
    assert "label" not in joined.signature


def test_other_pictures_are_refused():
    gray = Arrays({"x": np.zeros((2, 8, 8, 1), np.float32)})
    with pytest.raises(DataError, match="only color images"):
        colorable(gray)
    with pytest.raises(DataError, match="no squares of a multiple of size=32"):
        colorable(smooth_pictures())
    with pytest.raises(DataError, match="side=3 does not divide size=8"):
        colorable(smooth_pictures(), size=8, side=3)
    with pytest.raises(DataError, match="one size only"):
        colorable(smooth_pictures(), smooth_pictures(2, 8), size=8, pictures=True)


@pytest.mark.parametrize("uniform", [0.5, 1.0])
def test_loss_equals_the_papers(uniform):
    data = colorable(smooth_pictures(), size=16)
    model = small_model(data, objective=f"colorization(uniform={uniform})").eval()
    batch = data.batch(range(6))
    with torch.no_grad():
        logits = model.score(batch).decoded.params["logits"].squeeze(2).double()
        loss = model(batch).terms["colorization"]
    shares = (logits - logits.logsumexp(-1, keepdim=True)).numpy()
    weights, total = class_weights(data.signature["color_classes"].counts, uniform), 0.0
    for example, classes in enumerate(batch["color_classes"].flatten(1)):
        for cell, symbol in enumerate(classes):
            color = 128 * batch["color"][example].flatten(0, 1)[cell]
            total -= weights[symbol] * (soft_encode(color[None])[0].numpy() * shares[example, cell]).sum()
    assert loss.item() == pytest.approx(total / 6, rel=1e-4)


def test_a_model_learns_colors_and_is_loaded_again(tmp_path):
    data = colorable(smooth_pictures(4), size=16, pictures=True)
    model = small_model(data)
    before = rk.evaluate(model, data, "recoloring")["recoloring"]
    rk.fit(model, data, steps=60, batch=4, lr=5e-3, out=tmp_path / "run", seed=0)
    after = rk.evaluate(model, data, "recoloring")["recoloring"]
    assert after["balanced_auc"] > before["balanced_auc"] + 0.03
    assert after["gray_auc"] == before["gray_auc"]
    loaded = rk.load(tmp_path / "run" / "model")
    batch = data.batch(range(4))
    np.testing.assert_allclose(predict_colors(loaded, batch), predict_colors(model.eval(), batch), atol=1e-3)
    assert torch.equal(loaded.objective.class_weights, model.objective.class_weights)


def test_other_models_are_refused():
    data = colorable(smooth_pictures(), size=16)
    with pytest.raises(BuildError, match="a map of 313 classes"):
        small_model(data, "color")
    uncounted = rk.Signature(
        {name: field for name, field in data.signature.items() if name != "color_classes"}
        | {"color_classes": rk.Field(kind="map", shape=(4, 4), vocab=313)}
    )
    with pytest.raises(BuildError, match="count_symbols"):
        small_model(uncounted)
    with pytest.raises(BuildError, match="field 'ab'"):
        small_model(data, objective="colorization(color='ab')")
    model = small_model(data, "lightness", "reconstruction")
    with pytest.raises(BuildError, match="only classes of color"):
        predict_colors(model, data.batch([0]))


def test_area_under_the_curve_of_errors():
    rng = np.random.default_rng(0)
    errors, weights = rng.gamma(2, 30, 500), rng.random(500)
    thresholds = np.linspace(0, 150, 3001)
    for each in (np.ones(500), weights):
        shares = [(each * (errors <= threshold)).sum() / each.sum() for threshold in thresholds]
        area = np.trapezoid(shares, thresholds) / 150
        assert color_auc(errors, each) == pytest.approx(area, abs=1e-3)
    assert color_auc(np.zeros(3)) == 1
    assert color_auc(np.full(3, 200.0)) == 0


def test_measures_of_a_regression():
    """Of an l2 model: by hand, with every occurring class of color weighted by its share."""
    data = colorable(smooth_pictures(), size=16, side=8, pictures=True)
    model = small_model(data, "color", "reconstruction").eval()
    found = rk.evaluate(model, data, "recoloring(examples=3)")["recoloring"]
    batch = data.batch(range(6))
    with torch.no_grad():
        color = 128 * model.to_batch(model.score(batch).decoded)["color"].numpy()
    np.testing.assert_allclose(predict_colors(model, batch), color, atol=1e-3)
    true = to_lab(batch["x"].numpy())[..., 1:]
    error = np.linalg.norm(enlarge_colors(color, 16, 16) - true, axis=-1).ravel()
    classes = nearest_classes(true).ravel()
    weights = 1 / smooth_prior(np.bincount(classes, minlength=313).tolist())[classes]
    share = (1 - error / 150).clip(0, 1)
    assert found["auc"] == pytest.approx(share.mean(), abs=1e-4)
    assert found["balanced_auc"] == pytest.approx((weights * share).sum() / weights.sum(), abs=1e-4)
    assert found["gray_auc"] == pytest.approx((1 - np.linalg.norm(true, axis=-1) / 150).mean(), abs=1e-4)


def test_true_colors_give_the_picture_back():
    x = smooth_pictures().batch(range(6))["x"].numpy()
    ab = to_lab(x)[..., 1:]
    np.testing.assert_allclose(recolor(x, ab), x, atol=0.02)
    gray = recolor(x, np.zeros((6, 1, 1, 2), np.float32))
    assert np.ptp(gray, axis=-1).max() < 0.01


def test_seeds_are_paired():
    def seed(auc, gray):
        return {"auc": auc, "balanced_auc": auc, "gray_balanced_auc": gray, "gray_auc": gray}

    found = {
        "l2": [seed(0.8, 0.7), seed(0.6, 0.5)],
        "rebalanced": [seed(0.9, 0.7), seed(0.65, 0.5)],
    }
    table = summarize_seeds(found)
    assert list(table) == ["gray", "l2", "rebalanced"]
    assert table["gray"]["auc"] == pytest.approx(0.6)
    assert table["rebalanced"]["above l2"] == pytest.approx(0.075)
    assert table["rebalanced"]["deviation, l2"] == pytest.approx(0.025)
    assert table["rebalanced"]["won, l2"] == 2
    worse = summarize_seeds(
        {"l2": found["rebalanced"], "rebalanced": [found["l2"][0], found["rebalanced"][1]]}
    )
    assert worse["rebalanced"]["won, l2"] == 0
    assert table["l2"]["above gray"] == pytest.approx(0.1)
    assert "above l2" not in table["l2"]


def test_the_temperature_with_the_least_errors_is_chosen():
    data = colorable(smooth_pictures(4), size=16, pictures=True)
    model = small_model(data).eval()
    tried = [0.05, 0.38, 1.0, 3.0]
    balanced = [
        rk.evaluate(model, data, f"recoloring(temperature={each})")["recoloring"]["balanced_auc"]
        for each in tried
    ]
    assert len(set(balanced)) == 4
    assert choose_temperature(model, data, tried) == tried[int(np.argmax(balanced))]
    assert choose_temperature(model, data, tried[::-1]) == tried[int(np.argmax(balanced))]
    assert choose_temperature(model, data, [0.7]) == 0.7
    assert choose_temperature(small_model(data, "color", "reconstruction"), data, tried) == 0.05
    for wrong in ([], [0.38, 0.0]):
        with pytest.raises(DataError, match="temperatures must be above 0, and at least one"):
            choose_temperature(model, data, wrong)


def test_the_mean_temperature_of_the_seeds_is_shown():
    row = {"auc": 0.8, "balanced_auc": 0.8, "gray_balanced_auc": 0.7, "gray_auc": 0.7}
    table = summarize_seeds(
        {"l2": [row, row], "rebalanced": [row | {"temperature": each} for each in (0.6, 1.0)]}
    )
    assert table["rebalanced"]["temperature"] == pytest.approx(0.8)
    assert "temperature" not in table["l2"]


def test_a_judge_without_its_packages_is_refused(monkeypatch):
    load_network.cache_clear()
    for name in list(sys.modules):
        if name.startswith("efficientnet"):
            monkeypatch.delitem(sys.modules, name)
    actual = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("efficientnet"):
            raise ImportError(f"No module named {name!r}")
        return actual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BuildError, match="pip install --no-deps efficientnet-lite-pytorch"):
        rk.create("evaluator", "recoloring", judge="efficientnet-lite0")
    with pytest.raises(BuildError, match="no network named 'efficientnet'.*efficientnet-lite0"):
        load_classifier("efficientnet")


def test_the_judge_measures_what_it_reads(monkeypatch):
    """A judge of redness, in place of a network: gray pictures and true ones differ, true ones agree with themselves."""
    data = colorable(smooth_pictures(), size=16, pictures=True)
    measure = rk.create("evaluator", "recoloring", examples=0)

    def redness(pictures):
        red = torch.from_numpy((pictures[..., 0] - pictures[..., 1]).mean((1, 2)))
        return torch.stack([red, -red], -1).mul(20).softmax(-1)

    measure.read_classes = redness
    found = measure(small_model(data).eval(), data)["judge"]
    x = data.batch(range(6))["x"].numpy()
    gray = np.full_like(x, 0.5)
    assert found["gray_distance"] == pytest.approx(
        (redness(gray) - redness(x)).abs().sum(-1).mean().item() / 2, abs=1e-3
    )
    assert set(found) == {"agreement", "distance", "gray_agreement", "gray_distance"}
