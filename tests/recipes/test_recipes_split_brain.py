"""Small runs of ``recipes/split_brain.py``: its table, pictures and models, with and without colors and labels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import reprkit as rk

pytestmark = pytest.mark.slow
pytest.importorskip("skimage")
pytest.importorskip("reprkit_vision")
RECIPE = Path(__file__).parents[2] / "recipes" / "split_brain.py"


def run(tmp_path, *flags):
    small = (
        "--decoder",
        "conv(width=8, depth=0)",
        "--steps",
        "20",
        "--batch",
        "8",
        "--out",
        str(tmp_path / "run"),
    )
    command = [sys.executable, str(RECIPE), *flags, *small]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_halves_of_digits(tmp_path):
    nets = ("--encoder", "conv(width=8, depth=1)", "--plain", "conv(width=11, depth=1)")
    run(tmp_path, "--data", "digits", "--more", "", "--side", "2", "--repeats", "2", *nets)
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    rows = ["untrained", "split-brain"]
    assert set(found) == {
        *rows,
        *(f"{row}, {half}" for row in rows for half in ("left", "right")),
        "autoencoder",
    }
    assert all(row["probe"] > 0.3 for row in found.values())
    assert found["split-brain"]["probe"] > found["split-brain, left"]["probe"]
    assert found["split-brain"]["deviation"] > 0
    model = rk.load(tmp_path / "run" / "split-brain-1" / "model")
    assert {name: output.reads for name, output in model.outputs.items()} == {
        "left_classes": ("right",),
        "right_classes": ("left",),
    }


def test_photographs_with_a_discrete_latent(tmp_path):
    nets = (
        "--encoder",
        "conv(width=8, depth=1)",
        "--plain",
        "conv(width=11, depth=1)",
        "--latent",
        "vq(codes=8, dim=4)",
    )
    data = ("--data", "photos(size=16, crops=12, side=32)", "--more", "photos(size=16, crops=2, side=32)")
    said = run(tmp_path, *data, "--side", "2", *nets)
    assert "no labels" in said
    assert "recolored" in (tmp_path / "run" / "report.html").read_text()
