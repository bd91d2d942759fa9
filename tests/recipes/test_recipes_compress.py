"""Small runs of ``recipes/compress.py`` and ``codec_networks.py`` on crops of photographs: rates, gains, pages and models."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reprkit as rk

pytestmark = pytest.mark.slow
pytest.importorskip("reprkit_compress")
pytest.importorskip("reprkit_vision")
pytest.importorskip("skimage")

ROOT = Path(__file__).parents[2]
DATA = ("--data", "photos(size=64, crops=16, side=256)", "--test", "photos(size=128, crops=2, side=256)")


def run(name, out, *flags):
    done = subprocess.run(
        [sys.executable, str(ROOT / f"recipes/{name}.py"), *DATA, "--out", str(out), *map(str, flags)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (out / "index.html").exists()
    measured = json.loads((out / "results.json").read_text())
    return done.stdout, measured


def numbers(printed, name):
    return [float(value) for value in re.findall(rf"\b{name} (-?[\d.]+)", printed)]


def test_one_network_has_several_rates_and_beats_jpeg_at_the_high_ones(tmp_path):
    out = tmp_path / "run"
    printed, _ = run("compress", out, "--steps", 40, "--batch", 4, "--factors", 2.0, "--factors", 0.6)
    (low, high), (worse, better) = numbers(printed, "bpp"), numbers(printed, "psnr")
    assert low < 0.8 * high
    assert worse + 2 < better
    assert numbers(printed, "jpeg_gain_db")[1] > 0
    for folder in ("rate-0.5", "rate-1.7"):
        assert rk.load(out / folder).latent().frequencies() is not None


def test_networks_around_jpeg_are_better_than_jpeg(tmp_path):
    out = tmp_path / "run"
    flags = ("--steps", 60, "--batch", 4, "--quality", 20, "--rates", 15, "--rates", 30)
    printed, _ = run("codec_networks", out, *flags)
    sizes, gains = numbers(printed, "bpp"), numbers(printed, "jpeg_gain_db")
    assert sizes[0] < sizes[1]
    assert np.mean(gains) > 0.05
    assert rk.load(out / "model").latent().quality == 20
