"""``recipes/latent_swap.py`` on data of every kind, with and without labels."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reprkit as rk

ROOT = Path(__file__).parents[2]
LATENT = "vq(codes=8, dim=4)"


@pytest.fixture
def swap(tmp_path, monkeypatch):
    """swap(data, ...) -> the table that the recipe hands to its page, after two steps."""
    main = runpy.run_path(str(ROOT / "recipes/latent_swap.py"))["main"]
    tables = []
    monkeypatch.setattr(rk, "report", lambda folder, table, **_: tables.append(table) or folder)

    def run(data, **options):
        launch = rk.Launch(schedule="cosine", device="cpu")
        given = {"latents": [LATENT], "steps": 2, "batch": 8, "out": str(tmp_path / "out"), "launch": launch}
        main(data=str(data), **{**given, **options})
        return tables[-1]

    return run


@pytest.mark.slow
def test_rows_without_labels(swap, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(60, 5)).astype("float32"))
    table = swap(tmp_path / "rows.npy")
    assert list(table) == ["PCA, 5 dimensions", LATENT]
    assert set(table[LATENT]) == {"reconstruction", "codebook", "projection"}
    assert math.isfinite(table[LATENT]["reconstruction"]["error"])
    assert "the data has no labels: without linear-probe and knn" in capsys.readouterr().out


def test_measures_by_name(swap, tmp_path):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(60, 5)).astype("float32"))
    table = swap(tmp_path / "rows.npy", measures=["sparsity", "rate"], width=0)
    assert {name: set(results) for name, results in table.items()} == {LATENT: {"sparsity", "rate"}}


def test_symbols_have_a_network_and_no_pca(swap, tmp_path, capsys):
    np.save(tmp_path / "words.npy", np.random.default_rng(0).integers(0, 7, size=(60, 6)))
    table = swap(tmp_path / "words.npy", measures=["reconstruction"])
    assert set(table[LATENT]["reconstruction"]) >= {"accuracy", "perplexity"}
    assert (
        "PCA is left out: it reads real values of one shape, and the data is tokens"
        in capsys.readouterr().out
    )


def test_maps_have_a_network(swap, tmp_path):
    np.savez(tmp_path / "map.npz", x=np.random.default_rng(0).integers(0, 5, size=(60, 4, 4)))
    data = f"arrays(path={str(tmp_path / 'map.npz')!r}, kinds={{'x': 'map'}})"
    table = swap(data, measures=["reconstruction"], width=0)
    assert set(table[LATENT]["reconstruction"]) >= {"accuracy"}


@pytest.mark.slow
def test_sequences_and_labels(swap, tmp_path):
    random = np.random.default_rng(0)
    x, label = random.normal(size=(90, 6, 3)).astype("float32"), np.arange(90) % 3
    np.savez(tmp_path / "series.npz", x=x, label=label)
    table = swap(tmp_path / "series.npz")
    assert set(table["PCA, 16 dimensions"]) == {
        "reconstruction",
        "linear-probe",
        "knn",
        "codebook",
        "projection",
    }
    assert 0 <= table[LATENT]["knn"]["accuracy"] <= 1


@pytest.mark.slow
def test_a_folder_of_images(swap, tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        pixels = random.integers(0, 256, size=(16, 16, 3), dtype="uint8")
        Image.fromarray(pixels).save(tmp_path / f"pictures/{number}.png")
    table = swap(tmp_path / "pictures", measures=["reconstruction"])
    assert math.isfinite(table[LATENT]["reconstruction"]["error"])
