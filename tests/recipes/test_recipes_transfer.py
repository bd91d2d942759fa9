"""Small runs of ``recipes/transfer.py``: one table over objectives, a folder of one's own pictures, wrong flags."""

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
RECIPE = Path(__file__).parents[2] / "recipes" / "transfer.py"
ROWS = ["raw pixels", "HOG", "untrained"]


def run(tmp_path, *flags, expect=0):
    small = ("--steps", "8", "--batch", "8", "--tune", "finetune(steps=3)", "--out", str(tmp_path / "run"))
    command = [sys.executable, str(RECIPE), *small, *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == expect, done.stderr[-3000:]
    return done.stdout if expect == 0 else done.stderr


def write_album(folder):
    """Write pictures of two classes: mixed sizes, color, gray, with alpha, with a palette, and 16 bits."""
    rng = np.random.default_rng(0)
    for number in range(40):
        size = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
        shape = (3, 3) if number % 2 else (9, 9)
        rough = rng.integers(0, 256, (*shape, 4), dtype=np.uint8)
        picture = Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)
        target = folder / ("smooth" if number % 2 else "rough")
        target.mkdir(parents=True, exist_ok=True)
        picture.convert(("RGB", "L", "RGBA", "P")[number // 2 % 4]).save(target / f"{number:02}.png")
    deep = (np.linspace(0, 65535, 48 * 48).reshape(48, 48)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "smooth" / "deep.png")


def test_one_table_over_objectives(tmp_path):
    nets = ("--encoder", "vit(patch=2, width=16, depth=1, heads=2)", "--latent", "continuous(dim=16)")
    nets += ("--decoder", "vit(patch=2, width=16, depth=1, heads=2)", "--cell", "2", "--labeled", "300")
    given = ("masked", "contrastive", "split-brain", "denoising", "masked(ratio=0.5)")
    objectives = [flag for each in given for flag in ("--objectives", each)]
    run(tmp_path, "--data", "digits", *nets, *objectives, "--per-class", "5", "--tested", "100")
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(found) == [*ROWS, "masked 1", "contrastive", "split-brain", "denoising", "masked 5"]
    for row in found.values():
        keys = {
            f"{kind}.{count}.accuracy"
            for kind in ("knn", "linear-probe", "finetune")
            for count in (50, "all")
        }
        assert {key for key in row if key.endswith(".accuracy")} == keys
        assert row["knn.all.n"] == 100
    assert found["raw pixels"]["knn.all.accuracy"] > 0.85
    assert found["HOG"]["linear-probe.all.accuracy"] > 0.7
    model = rk.load(tmp_path / "run" / "split-brain-0" / "model")
    assert set(model.factors) == {"left", "right"}


def test_pictures_of_ones_own(tmp_path):
    write_album(tmp_path / "album")
    data = (
        "--data",
        "images(root='album', size=16, labels=True)",
        "--more",
        "photos(size=16, crops=2, side=32)",
    )
    nets = ("--encoder", "conv(width=8, depth=2)", "--decoder", "conv(width=8, depth=2)", "--repeats", "2")
    objectives = (
        "--objectives",
        "colorization",
        "--objectives",
        "split-brain",
        "--objectives",
        "contrastive",
    )
    run(tmp_path, *data, *nets, *objectives, "--per-class", "3", "--per-class", "500")
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(found) == [*ROWS, "colorization", "split-brain", "contrastive"]
    row = found["colorization"]
    assert 0 <= row["linear-probe.6.accuracy"] <= 1
    assert row["knn.all.accuracy.deviation"] >= 0
    assert "knn.1000.accuracy" not in row


def test_wrong_flags_end_in_one_sentence(tmp_path):
    nets = (
        "--encoder",
        "conv(width=8, depth=2)",
        "--objectives",
        "colorization",
        "--per-class",
        "5",
        "--cell",
        "2",
    )
    assert "only color images" in run(tmp_path, "--data", "digits", *nets, expect=1)
