"""Small runs of ``recipes/masked_autoencoder.py`` and ``simclr.py`` on the digits: their results, pages and models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ("--data", "digits", "--labels", "30", "--batch", "64", "--tune", "finetune(steps=2)")
LATENTS = ["vq(codes=16, dim=4)", "gaussian(dim=8)"]


def run_recipe(name, folder, *args):
    """What a recipe prints."""
    command = [sys.executable, str(ROOT / "recipes" / name), *TINY, "--out", str(folder / "run"), *args]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("latent", LATENTS)
def test_masked_autoencoder_with_any_latent(latent, tmp_path):
    net = ("--patch", "2", "--width", "16", "--depth", "1", "--decoder-width", "16", "--latent", latent)
    # The flag's former spelling still works.
    printed = run_recipe("masked_autoencoder.py", tmp_path, *net, "--steps", "20", "--no-normalise")
    found = json.loads((tmp_path / "run/results.json").read_text())
    assert list(found) == ["raw pixels", "untrained", "masked", "unmasked"]
    for name, results in found.items():
        for measure in ("knn", "linear-probe", "finetune"):
            assert set(results["few-labels"][measure]) == {"30", "all"}, name
    assert found["masked"]["masking"]["ratio"] == 0.75
    page = (tmp_path / "run/masked/report.html").read_text()
    assert "What is predicted from what is shown" in page
    assert "finetune all" in printed
    for objective in ("masked", "unmasked"):
        assert (tmp_path / f"run/{objective}/model/reprkit.json").is_file()


@pytest.mark.slow
def test_simclr(tmp_path):
    views = "gaussian-noise(std=0.2)"
    printed = run_recipe(
        "simclr.py",
        tmp_path,
        "--encoder",
        "conv(width=8)",
        "--latent",
        "continuous(dim=8)",
        "--views",
        views,
        "--steps",
        "20",
    )
    found = json.loads((tmp_path / "run/results.json").read_text())
    assert list(found) == ["raw pixels", "untrained", "contrastive"]
    assert set(found["contrastive"]["few-labels"]["finetune"]) == {"30", "all"}
    assert json.loads((tmp_path / "run/contrastive/model/reprkit.json").read_text())["decoder"] is None
    assert "knn 30" in printed
