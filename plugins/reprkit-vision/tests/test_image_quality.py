import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

import reprkit as rk
from reprkit.data import Tensors
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import EvaluatorConformance


class TestImageQuality(EvaluatorConformance):
    part = "reprkit-vision/image-quality"


def make_images(size=20, side=16, channels=3, span=(0.0, 1.0), kind="image"):
    generator = torch.Generator().manual_seed(0)
    shape = (side, side, channels)
    x = span[0] + (span[1] - span[0]) * torch.rand(size, *shape, generator=generator)
    return Tensors({"x": x}, Signature({"x": Field(kind="image", shape=shape, range=span)}))


def build_model(data):
    return rk.build(data=data, encoder="mlp(widths=(32,))", latent="continuous(dim=8)", decoder="mlp").eval()


def assert_from_best_to_worst(grid):
    rows = [torch.from_numpy(grid.rows[name]).movedim(-1, 1) for name in ("reconstruction", "original")]
    ssim = structural_similarity_index_measure(*rows, data_range=(0.0, 1.0), reduction="none")
    assert ssim.tolist() == pytest.approx(sorted(ssim.tolist(), reverse=True), abs=1e-5)
    assert f"({ssim[0]:.2f}) to the worst ({ssim[-1]:.2f})" in grid.caption


@pytest.mark.parametrize("span", [(0.0, 1.0), (-1.0, 1.0)])
def test_values_equal_those_of_scikit_image(span):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    data = make_images(span=span)
    model = build_model(data)
    x = data.batch(range(len(data)))["x"]
    with torch.no_grad():
        output = model.to_batch(model.decode(model.encode({"x": x})))["x"].clamp(*span)
    width = span[1] - span[0]
    pairs = list(zip(x.double().numpy(), output.double().numpy(), strict=True))
    psnr = np.mean([peak_signal_noise_ratio(a, b, data_range=width) for a, b in pairs])
    found = rk.evaluate(model, data, "image-quality", examples=0)["image-quality"]
    assert found["psnr"] == pytest.approx(psnr, abs=1e-3)
    full = [
        structural_similarity(
            a, b, data_range=width, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            full=True,
        )[1].mean()
        for a, b in pairs
    ]  # fmt: skip
    assert found["ssim"] == pytest.approx(np.mean(full), abs=2e-2)  # the two treat the border differently
    assert found["n"] == len(data)


def test_a_perfect_reconstruction_has_the_limit_as_psnr(monkeypatch):
    data = make_images(side=8)
    model = build_model(data)
    monkeypatch.setattr(model, "to_batch", lambda decoded: data.batch(range(len(data))))
    found = rk.create("evaluator", "image-quality(limit=60.0)")(model, data)
    assert found["psnr"] == pytest.approx(60.0)
    assert found["ssim"] == pytest.approx(1.0)


def test_denoising_is_compared_with_clean_images():
    data = make_images(30, 8, 1)
    model = build_model(data)
    evaluator = "image-quality(corruption='gaussian-noise(std=0.5)', examples=4)"
    results = rk.evaluate(model, data, evaluator, examples=0)
    found = results["image-quality"]
    grid = results.figures["image-quality"]["grid"]
    assert list(grid.rows) == ["original", "given", "reconstruction"]
    x = data.batch(range(30))["x"]
    originals = {image.tobytes() for image in x.numpy()}
    assert {image.tobytes() for image in grid.rows["original"]} <= originals
    noisy = rk.create("corruption", "gaussian-noise(std=0.5)")({"x": x}, torch.Generator().manual_seed(0))[0][
        "x"
    ]
    mse = (noisy.clamp(0, 1) - x).square().mean((1, 2, 3))
    assert found["given_psnr"] == pytest.approx(float((-10 * mse.log10()).mean()), abs=1e-3)
    with torch.no_grad():
        output = model.to_batch(model.decode(model.encode({"x": noisy}, in_range=False)))["x"].clamp(0, 1)
    mse = (output - x).square().mean((1, 2, 3))
    assert found["psnr"] == pytest.approx(float((-10 * mse.log10()).mean()), abs=1e-3)
    assert "given_psnr" not in rk.evaluate(model, data, "image-quality", examples=0)["image-quality"]
    # For the figure the corruption is repeated batch by batch, with the same random numbers.
    again = rk.evaluate(model, data, evaluator, examples=0, batch=7).figures["image-quality"]["grid"]
    assert again.rows["given"].shape == (4, 8, 8, 1)
    assert_from_best_to_worst(again)


def test_the_grid_goes_from_the_best_to_the_worst():
    data = make_images(40, 8, 1)
    model = build_model(data)
    results = rk.evaluate(model, data, "image-quality(examples=5)", examples=0)
    grid = results.figures["image-quality"]["grid"]
    assert list(grid.rows) == ["original", "reconstruction"]
    assert grid.rows["original"].shape == grid.rows["reconstruction"].shape == (5, 8, 8, 1)
    assert_from_best_to_worst(grid)
    assert "<img" in grid.html()
    assert "figures" not in results["image-quality"]


def test_data_other_than_images_raises():
    vectors = Tensors({"x": torch.rand(9, 4)}, Signature({"x": Field(kind="vector", shape=(4,))}))
    unknown = Tensors({"x": torch.rand(9, 8, 8, 1)}, Signature({"x": Field(kind="image", shape=(8, 8, 1))}))
    for data, message in (
        (vectors, "is vector data"),
        (unknown, "the data has no range"),
        (make_images(side=5), "at least 6 x 6 pixels, and these have 5 x 5"),
    ):
        with pytest.raises(BuildError, match=message):
            rk.evaluate(build_model(data), data, "image-quality")
    with pytest.raises(PartArgumentError, match="limit=0.0 must be a number above 0"):
        rk.create("evaluator", "image-quality(limit=0.0)")
