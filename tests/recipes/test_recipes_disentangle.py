"""``recipes/disentangle.py``: its parts, and the claim at small size."""

import json
import runpy
from pathlib import Path

import pytest

import reprkit as rk
from reprkit.errors import UnknownPartError

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "recipes/disentangle.py"))


def test_each_system_is_a_latent_and_an_objective():
    parts = {
        name: RECIPE["parts_of"](name, 10, 6.0, 5.0, 20.0) for name in RECIPE["SYSTEMS"] if name != "PCA"
    }
    assert parts["beta-VAE"] == ("gaussian(dim=10, beta=6)", "reconstruction")
    assert parts["beta-TCVAE"] == ("gaussian(dim=10)", "reconstruction + 5 * total-correlation")
    assert parts["FactorVAE"][1] == "reconstruction + 20 * total-correlation(estimate='critic')"
    assert RECIPE["parts_of"]("vq(codes=8)", 10, 6.0, 5.0, 20.0) == ("vq(codes=8)", "reconstruction")
    for latent, _ in parts.values():
        assert rk.create("latent", latent).out_dim == 10


def test_a_mistyped_system_is_refused(tmp_path):
    with pytest.raises(UnknownPartError, match="Did you mean .gaussian"):
        RECIPE["main"](systems=["gausian(dim=3)"], out=str(tmp_path / "run"))


@pytest.mark.slow
def test_every_system_is_measured_and_the_penalty_has_its_price(tmp_path):
    """Small shapes: every measure is of every system, also of a discrete code; beta-TCVAE's code holds less than the VAE's."""
    systems = ["PCA", "VAE", "beta-TCVAE", "FactorVAE", "vq(codes=8, dim=2, codebooks=3)"]
    RECIPE["main"](
        systems=systems, data="shapes(size=16, scales=3, orientations=2, positions=12)", dim=6, trees=2, limit=400,
        encoder="mlp(widths=(128, 64))", decoder="mlp(widths=(64, 128), scale=0.2)",
        steps=300, batch=128, lr=2e-3, out=str(tmp_path / "run"), launch=rk.Launch(schedule="cosine", device="cpu"),
    )  # fmt: skip
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(found) == set(systems)
    for results in found.values():
        assert set(results["disentanglement"]) == {"mig", "sap", "dci", "factor_vae", "irs"}
    kl, error = (
        {name: found[name]["reconstruction"][key] for name in ("VAE", "beta-TCVAE")}
        for key in ("kl", "error")
    )
    assert kl["beta-TCVAE"] < 0.9 * kl["VAE"]
    assert error["beta-TCVAE"] > error["VAE"]
    assert (tmp_path / "run" / "beta-TCVAE" / "report.html").exists()
