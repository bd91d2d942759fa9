"""A small run of ``recipes/split_brain.py`` on crops of photographs: its results, page and model."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reprkit as rk
from reprkit.data import Arrays
from reprkit.errors import DataError

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "split_brain.py"
pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("split_brain", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(colors):
    """Pictures of one color each (n 4 4 3), with a label."""
    x = np.tile(np.array(colors, dtype=np.float32)[:, None, None, :], (1, 4, 4, 1))
    return Arrays({"x": x, "label": np.arange(len(colors))})


def test_pictures_are_divided_into_lightness_and_color(recipe):
    """White has lightness 100 and no color; the values of red are those of the sRGB primaries."""
    divided = recipe.divide(pictures([(1, 1, 1), (0, 0, 0), (1, 0, 0)]))
    batch = divided.batch(range(3))
    np.testing.assert_allclose(100 * batch["lightness"][:, 0, 0, 0], [100, 0, 53.24], atol=0.02)
    np.testing.assert_allclose(128 * batch["color"][:, 0, 0], [[0, 0], [0, 0], [80.09, 67.20]], atol=0.05)
    assert batch["label"].tolist() == [0, 1, 2]
    assert divided.signature["color"].range == (-1.0, 1.0)
    with pytest.raises(DataError, match="divides color images"):
        recipe.divide(rk.dataset("digits"))


def test_the_error_of_the_mean_is_the_variance(recipe):
    train = recipe.divide(pictures([(1, 1, 1), (0, 0, 0)]))
    assert recipe.mean_error(train, train, "lightness") == pytest.approx(16 * 0.25, rel=1e-3)


@pytest.mark.slow
def test_split_brain_with_a_discrete_latent(tmp_path):
    small = (
        "--data",
        "photos(size=16, crops=12, side=32)",
        "--latent",
        "vq(codes=8, dim=4)",
        "--steps",
        "20",
    )
    net = ("--encoder", "conv(width=8, depth=1)", "--decoder", "conv(width=8, depth=1)")
    command = [sys.executable, str(RECIPE), *small, *net, "--out", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {"color.error", "lightness.error", "bits"} <= set(found["reconstruction"])
    assert set(found["explained"]) == {"color", "lightness"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "decoder (color)" in page
    assert "color explained" in done.stdout
    model = rk.load(tmp_path / "run" / "model")
    assert {name: output.reads for name, output in model.outputs.items()} == {
        "color": ("lightness",),
        "lightness": ("color",),
    }
