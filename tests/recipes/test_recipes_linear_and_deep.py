"""Small runs of the recipes nonlinear_pca, pca and hinton_2006: each claim holds at small size, and the page is written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(name, out, *flags):
    """Run a recipe and return its results: row -> evaluator -> metric."""
    command = [sys.executable, str(ROOT / "recipes" / f"{name}.py"), "--out", str(out), *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=out.parent, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"the page: {out}" in done.stdout
    assert (out / "report.html").stat().st_size > 10_000
    return json.loads((out / "results.json").read_text())


def test_a_bent_plane_has_less_error_than_a_flat_one_and_separates_more(tmp_path):
    found = run("nonlinear_pca", tmp_path / "run", "--steps", "300", "--dims", "2")
    assert found["network, 2"]["against PCA"]["error ratio"] < 0.8
    assert found["network, 2"]["against PCA"]["knn gain"] > 0.1
    assert {"input", "code"} <= set(found["network, 2"]["layers"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "What the network decodes on a grid over its code" in page


def test_rows_without_labels(tmp_path):
    rows = np.random.default_rng(0).normal(size=(80, 5)).astype("float32")
    np.save(tmp_path / "rows.npy", rows)
    flags = ("--data", str(tmp_path / "rows.npy"), "--steps", "3", "--batch", "16")
    found = run(
        "nonlinear_pca", tmp_path / "run", *flags, "--dims", "3", "--latent", "gaussian(dim={dim}, beta=0.1)"
    )
    assert set(found["network, 3"]) == {"reconstruction", "against PCA"}


def test_a_tied_linear_network_finds_the_principal_components(tmp_path):
    """By L-BFGS; Adam takes two thousand steps, whose figures are in docs/results/classic/pca.md."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 6)) * [6, 4, 2, 0.5, 0.4, 0.3] @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    np.save(tmp_path / "rows.npy", (rows + 3).astype("float32"))
    flags = ("--data", str(tmp_path / "rows.npy"), "--dim", "3", "--steps", "5", "--lbfgs-steps", "4")
    found = run("pca", tmp_path / "run", *flags)
    assert found["L-BFGS"]["pca"]["angle"] < 1e-3
    assert found["L-BFGS"]["pca"]["orthonormal"] < 1e-3
    assert found["L-BFGS"]["pca"]["codes"] < 1e-3
    expected = found["PCA"]["reconstruction"]["error"]
    assert found["L-BFGS"]["reconstruction"]["error"] == pytest.approx(expected, rel=1e-4)
    assert found["Adam"]["pca"]["angle"] > 0.1  # after five steps: the measure tells them apart


def test_pre_training_takes_a_deep_net_of_sigmoid_units_from_the_mean_image(tmp_path):
    net = (
        "--widths",
        "64",
        "--widths",
        "48",
        "--widths",
        "32",
        "--widths",
        "16",
        "--latent",
        "continuous(dim=4)",
    )
    flags = ("--data", "curves(count=1500, size=12)", *net, "--machine-steps", "300", "--steps", "200")
    found = run("hinton_2006", tmp_path / "run", *flags)
    error = {name: each["reconstruction"]["error"] for name, each in found.items()}
    assert error["random weights"] > 0.95 * error["mean"]
    assert error["pre-trained"] < 0.9 * error["random weights"]
    assert "Weights of the first machine" in (tmp_path / "run" / "report.html").read_text()
