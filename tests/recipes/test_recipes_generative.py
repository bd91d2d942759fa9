"""Small runs of ``recipes/vae.py`` and ``vq_vae.py`` on the digits: their results, pages and models."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import reprkit as rk

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run_recipe(name, folder, *args):
    """What a recipe prints, its results.json, and its page."""
    command = [sys.executable, str(ROOT / "recipes" / name), "--data", "digits", "--out", str(folder), *args]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder.parent, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return (
        done.stdout,
        json.loads((folder / "results.json").read_text()),
        (folder / "report.html").read_text(),
    )


@pytest.mark.parametrize("latent", ["gaussian(dim=4)", "binary(bits=8, beta=1.0)"])
def test_vae_with_any_latent_that_has_a_posterior(latent, tmp_path):
    net = ("--encoder", "mlp(widths=(32,))", "--decoder", "mlp(widths=(32,), likelihood='bernoulli')")
    printed, found, page = run_recipe(
        "vae.py", tmp_path / "run", *net, "--latent", latent, "--steps", "30", "--samples", "4"
    )
    assert found["likelihood"]["nll"] <= found["likelihood"]["negative_elbo"] + 1e-6
    assert found["likelihood"]["bits_per_dim"] == pytest.approx(found["likelihood"]["nll"] / 64 / math.log(2))
    assert found["samples"]["novelty"] > 0
    assert found["interpolation"]["path_length"] >= 1 - 1e-6
    assert "Between two codes" in page
    assert "untrained" in printed


@pytest.mark.parametrize(
    "latent", ["vq(codes=8, dim=4)", "binary(bits=3)", "residual-vq(codes=4, layers=2, dim=4)"]
)
def test_vq_vae_with_any_discrete_latent(latent, tmp_path):
    small = ("--width", "8", "--depth", "1", "--levels", "17", "--steps", "20", "--prior-steps", "260")
    prior = ("--prior", "transformer(width=16, depth=1, heads=2, causal=True)")
    printed, found, page = run_recipe("vq_vae.py", tmp_path / "run", *small, *prior, "--latent", latent)
    likelihood = found["likelihood"]
    # A deterministic code needs one sample; a binary code is sampled from its posterior.
    assert likelihood["samples"] == (64 if latent.startswith("binary") else 1)
    # A uniform prior would cost the codes' fixed rate.
    assert 0 < likelihood["code_bits"] < found["reconstruction"]["bits"]
    assert 0 < likelihood["bits_per_dim"] < math.log2(17)
    assert "Samples" in page
    assert "−log p(x) per dimension" in printed
    prior_model = rk.load(tmp_path / "run" / "prior")
    model = rk.load(tmp_path / "run" / "model")
    assert model.sample(2, prior=prior_model).x.shape[0] == 2
