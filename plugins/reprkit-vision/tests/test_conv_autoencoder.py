"""Small runs of ``recipes/conv_autoencoder.py``, and its result on MNIST."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[3] / "recipes" / "conv_autoencoder.py"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not RECIPE.is_file(), reason="needs the repository")]


def run(folder, *args):
    command = [sys.executable, str(RECIPE), "--out", str(folder / "run"), *args]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "run" / "results.json").read_text()), done.stdout


def test_every_network_runs_and_writes_its_page(tmp_path):
    found, printed = run(tmp_path, "--data", "digits", "--steps", "20", "--batch", "32")
    assert list(found) == ["undercomplete", "convolutional", "denoising"]
    assert "given_psnr" in found["denoising"]["image-quality"]
    assert "given_psnr" not in found["convolutional"]["image-quality"]
    for net, results in found.items():
        assert results["pixel"]["nats"] == pytest.approx(results["reconstruction"]["nll"] / 64)
        assert net in printed
        assert (tmp_path / "run" / net / "model" / "reprkit.json").is_file()
    page = (tmp_path / "run" / "denoising" / "report.html").read_text()
    assert ">given<" in page


@pytest.mark.timeout(900)
def test_undercomplete_network_beats_the_tutorial_with_half_of_the_steps(tmp_path):
    found, _ = run(tmp_path, "--nets", "undercomplete", "--steps", "1500")
    assert found["undercomplete"]["pixel"]["nats"] <= 0.095
