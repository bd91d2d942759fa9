"""Small runs of ``recipes/colorization.py``: its table, page and models, a folder of one's own pictures, wrong flags."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reprkit as rk

pytestmark = pytest.mark.slow
pytest.importorskip("skimage")
pytest.importorskip("reprkit_vision")
RECIPE = Path(__file__).parents[2] / "recipes" / "colorization.py"


def run(tmp_path, *flags, expect=0):
    small = ("--encoder", "conv(width=8, depth=2)", "--decoder", "conv(width=8, depth=0)", "--more", "")
    command = [sys.executable, str(RECIPE), *small, "--judge", "none", *flags, "--out", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == expect, done.stderr[-3000:]
    return done.stdout if expect == 0 else done.stderr


def write_album(folder):
    """Write pictures of mixed sizes: color, gray, with alpha, with a palette, and 16 bits."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        size = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
        rough = rng.integers(0, 256, (5, 5, 4), dtype=np.uint8)
        picture = Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)
        picture.convert(("RGB", "L", "RGBA", "P")[number % 4]).save(folder / f"{number:02}.png")
    deep = (np.linspace(0, 65535, 48 * 48).reshape(48, 48)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")


def test_photographs_are_colored(tmp_path):
    data = ("--data", "photos(size=32, side=48, crops=12)", "--repeats", "2")
    run(tmp_path, *data, "--steps", "20", "--batch", "4", "--latent", "vq(codes=16, dim=8)")
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(found) == ["gray", "l2", "classes", "rebalanced"]
    for name in ("classes", "rebalanced"):
        row = found[name]
        assert 0.5 < row["auc"] < 1
        assert row["above l2"] == pytest.approx(row["balanced_auc"] - found["l2"]["balanced_auc"], abs=1e-6)
        assert row["deviation, l2"] > 0
    assert found["rebalanced"]["chroma"] > found["gray"]["chroma"] == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Test pictures" in page
    assert "rebalanced" in page
    model = rk.load(tmp_path / "run" / "rebalanced-1" / "model")
    assert model.output == "color_classes"


def test_pictures_of_ones_own(tmp_path):
    write_album(tmp_path / "album")
    flags = ("--methods", "rebalanced", "--steps", "3", "--batch", "4")
    said = run(tmp_path, "--data", "images(root='album', size=64)", *flags)
    assert "rebalanced" in said


def test_wrong_flags_end_in_one_sentence(tmp_path):
    assert "no method named 'l1'; known: l2, classes, rebalanced" in run(
        tmp_path, "--methods", "l1", expect=1
    )
    gray = run(tmp_path, "--data", "digits", "--steps", "1", expect=1)
    assert "only color images in [0, 1] can be colored" in gray
