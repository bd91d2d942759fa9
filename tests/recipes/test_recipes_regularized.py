"""Small runs of the recipes of regularized autoencoders: each claim holds at small size, and the page is written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(name, out, *flags):
    """Run a recipe and return its results: row -> evaluator -> metric."""
    command = [sys.executable, str(ROOT / "recipes" / f"{name}.py"), "--out", str(out), *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=out.parent, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"the page: {out}" in done.stdout
    assert "<svg" in (out / "report.html").read_text()
    return json.loads((out / "results.json").read_text())


def test_the_field_of_a_denoising_network_is_the_score(tmp_path):
    small = ("--steps", "900", "--size", "4000", "--batch", "128", "--deviations", "0.4")
    found = run("score_field", tmp_path / "run", *small)
    own, plain = (found[f"{name}, noise 0.4"]["score"] for name in ("denoising", "plain"))
    assert own["cosine"] > 0.9 > plain["cosine"]
    assert own["weighted error"] < 0.4
    assert found["points"]["slope"]["largest"] < 0.3
    assert found["circle"]["slope"]["smallest"] < 0.5 < found["circle"]["slope"]["largest"]
    assert found["points"]["distance"]["paths"] < 0.2


def test_a_denoising_network_removes_noise(tmp_path):
    small = ("--data", "digits", "--widths", "32", "--deviations", "0.4", "--steps", "400")
    found = run("denoising", tmp_path / "run", *small)
    assert found["noise 0.4, code 32"]["of plain"]["0.4"] < 0.8
    assert found["blind, code 32"]["of plain"]["0.4"] < 0.9
    # A linear map of the same width hands on more noise.
    assert found["noise 0.4, code 32"]["error at noise"]["0.4"] < found["PCA, 32"]["error at noise"]["0.4"]
    # Known noise is removed better at its own strength, and clean images are kept better by the blind network.
    known, blind = (found[f"{name}, code 32"]["error at noise"] for name in ("noise 0.4", "blind"))
    assert blind["0"] < known["0"]


def test_sparse_codes_have_few_active_units(tmp_path):
    small = ("--data", "digits", "--width", "256", "--dense", "8", "--steps", "150")
    latents = (
        "--latents",
        "top-k(dim={width}, k=16)",
        "--latents",
        "continuous(dim={width}, activation='relu', l1=1.0)",
    )
    found = run("sparse", tmp_path / "run", *small, *latents)
    active = {name: each["sparsity"]["active"] for name, each in found.items()}
    assert active["top-k(dim=256, k=16)"] <= 16 / 256 + 1e-6
    assert active["continuous(dim=256, activation='relu')"] > 0.2
    assert (
        active["continuous(dim=256, activation='relu', l1=1.0)"]
        < active["continuous(dim=256, activation='relu')"] / 2
    )
    assert "probe gain" in found["top-k(dim=256, k=16)"]["against dense"]


def test_an_overcomplete_code_copies_white_noise_and_a_remedied_one_does_not(tmp_path):
    found = run("overcomplete", tmp_path / "run")
    snr = found["overcomplete"]["snr"]
    assert snr["white"] > 12
    assert snr["white"] > snr["data"] - 2
    for name in ("narrow code", "sparsity"):
        assert found[name]["lost"]["white"] > 3
        assert found[name]["lost"]["white"] > found[name]["lost"]["data"] + 2


def test_contraction_leaves_fewer_directions(tmp_path):
    small = ("--steps", "300", "--weights", "20", "--noises", "0.3", "--lbfgs", "2")
    found = run("contractive", tmp_path / "run", *small)
    rows = {name: each["jacobian"] for name, each in found.items()}
    assert rows["contractive"]["norm"] < 0.2 * rows["plain"]["norm"]
    assert rows["contractive"]["above a tenth"] < 0.7 * rows["plain"]["above a tenth"]
    assert found["contractive"]["reconstruction"]["error"] < 2.5  # the variance of the digits is 4.7
    assert "contractive, L-BFGS" in rows
