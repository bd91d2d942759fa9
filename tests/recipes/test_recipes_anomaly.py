"""Small runs of ``recipes/anomaly.py``: tables and pictures, with and without a prior."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run_recipe(folder, *args):
    command = [sys.executable, str(ROOT / "recipes" / "anomaly.py"), "--out", str(folder), *args]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=folder.parent,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return (
        done.stdout,
        json.loads((folder / "results.json").read_text()),
        (folder / "report.html").read_text(),
    )


def test_malignant_tumors_are_found_and_explained(tmp_path):
    printed, found, page = run_recipe(
        tmp_path / "run", "--steps", "200", "--latent", "gaussian(dim=16, beta=0.1)"
    )
    scores = {name: each["roc_auc"] for name, each in found.items() if "roc_auc" in each}
    assert len(scores) == 7  # five scores, forest and support vector machine
    assert scores["anomaly(score='nll')"] > 0.85
    assert scores["isolation forest"] > 0.9
    assert scores["one-class SVM"] > 0.9
    assert all(each["false_positive_rate"] < 0.25 for each in found.values() if "roc_auc" in each)
    assert ", an anomaly: nll" in page, "the most unusual rows are named"
    assert "worst area" in page, "with the columns that add most"
    assert "isolation forest" in printed


def test_pictures_have_maps(tmp_path):
    code = "vq(codes=16, dim=4)"
    _, found, page = run_recipe(
        tmp_path / "run",
        "--data",
        "digits",
        "--normal",
        "0",
        "--normal",
        "6",
        "--latent",
        code,
        "--steps",
        "100",
    )
    assert "anomaly(score='neighbors')" in found
    assert "What each pixel adds to the score" in page
    assert found["anomaly(score='nll')"]["roc_auc"] > 0.7
    assert found["isolation forest"]["roc_auc"] > 0.9
