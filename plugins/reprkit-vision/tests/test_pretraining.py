"""Parts and fields of pre-training by one objective or another, and HOG features."""

import numpy as np
import pytest
import torch
from reprkit_vision.hog import hog_features
from reprkit_vision.pretraining import join_pictures, plan_pretraining

import reprkit as rk
from reprkit.data import Arrays
from reprkit.errors import DataError

pytest.importorskip("skimage")
NETS = {
    "encoder": "vit(patch=4, width=16, depth=1, heads=2)",
    "latent": "continuous(dim=16)",
    "decoder": "vit(patch=4, width=16, depth=1, heads=2)",
    "classes": "conv(width=8, depth=0)",
}


def pictures(channels=3, count=8, side=16):
    rng = np.random.default_rng(0)
    return Arrays({"x": rng.random((count, side, side, channels), np.float32), "label": np.arange(count) % 2})


@pytest.mark.parametrize(
    ("objective", "channels", "inputs", "outputs"),
    [
        ("masked(ratio=0.5)", 3, ["x"], ["x"]),
        ("contrastive", 1, ["x"], []),
        ("denoising", 3, ["x"], ["x"]),
        ("colorization(uniform=1)", 3, ["lightness"], ["color_classes"]),
        ("split-brain", 3, ["lightness", "color"], ["lightness_classes", "color_classes"]),
        ("split-brain", 1, ["left", "right"], ["left_classes", "right_classes"]),
    ],
)
def test_a_model_for_each_objective(objective, channels, inputs, outputs):
    data = pictures(channels)
    nets = (
        NETS if objective != "split-brain" or channels == 3 else NETS | {"encoder": "conv(width=8, depth=1)"}
    )
    parts, read = plan_pretraining(objective, data, **nets)
    prepared = read(data)
    assert "label" in prepared.signature
    model = rk.build(data=prepared, seed=0, **parts)
    assert [factor.input for factor in model.factors.values()] == inputs
    assert [output.field_name for output in model.outputs.values()] == outputs
    assert torch.isfinite(model(prepared.batch(range(8))).total)
    few = rk.create("evaluator", "few-labels", labels=(4,), measures=("knn(k=1)",))
    found = rk.evaluate(model.eval(), prepared, few, fit_on=prepared, examples=0)["few-labels"]["knn"]
    assert found["all"]["accuracy"] == 1


def test_other_pictures_are_refused():
    with pytest.raises(DataError, match="only color images"):
        plan_pretraining("colorization", pictures(1), **NETS)[1](pictures(1))
    with pytest.raises(
        DataError, match=r"must be alike, and these are image \(16, 16, 3\).*image \(16, 16, 1\)"
    ):
        join_pictures(pictures(3), pictures(1))
    assert join_pictures(pictures(), pictures(count=3)).signature["x"] == pictures().signature["x"]
    assert len(join_pictures(pictures(), pictures(count=3))) == 11


def test_hog_counts_gradients():
    """A ramp to the right has all gradients in the bin of 0 degrees, so each block of 2 x 2 cells has four equal values."""
    ramp = np.tile(np.linspace(0, 1, 16, dtype=np.float32)[None, None, :, None], (2, 16, 1, 1))
    found = hog_features(Arrays({"x": ramp, "label": np.array([0, 1])}))
    features = found.batch([0])["x"][0].reshape(3, 3, 2, 2, 9)
    assert found.batch([0, 1])["label"].tolist() == [0, 1]
    assert (features[..., 1:] == 0).all()
    np.testing.assert_allclose(features[1, 1, ..., 0], 0.5, atol=1e-3)


def test_hog_refuses_other_data():
    with pytest.raises(DataError, match="images of one or three channels"):
        hog_features(Arrays({"x": np.zeros((2, 5), np.float32), "label": np.array([0, 1])}))
    with pytest.raises(DataError, match="at least 32 pixels a side"):
        hog_features(pictures(), cell=16)
    with pytest.raises(DataError, match="no label field 'label'"):
        hog_features(Arrays({"x": np.zeros((2, 16, 16, 1), np.float32)}))
