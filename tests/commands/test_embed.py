"""``reprkit embed``: the file, what is printed, and wrong usage."""

import json

import numpy as np
import pandas as pd
import pytest

import reprkit as rk
from reprkit.data.formats.table import Table

FRAME = pd.DataFrame({"a": np.arange(20.0), "b": ["u", "v"] * 10})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model = rk.build(
        data=Table(FRAME), encoder="mlp(width=8)", latent="continuous(dim=3)", decoder="mlp(width=8)"
    )
    return model.save(tmp_path_factory.mktemp("embed") / "model")


def test_a_table_becomes_a_file_of_vectors(run, folder, tmp_path):
    file, out = tmp_path / "rows.csv", tmp_path / "codes.npy"
    FRAME.to_csv(file, index=False)
    code, printed, _ = run("embed", folder, file, "--out", out, "--json")
    assert (code, json.loads(printed)) == (0, {"file": str(out), "examples": 20, "width": 3})
    np.testing.assert_allclose(np.load(out), rk.embed(rk.load(folder), FRAME), rtol=1e-6)
    code, _, err = run("embed", folder, file, "--out", out)
    assert code == 1
    assert "exists already" in err
    code, printed, _ = run("embed", folder, file, "--out", out, "--overwrite", "--pool", "flatten")
    assert code == 0
    assert "20 examples, 3 numbers each" in printed


def test_wrong_usage(run, folder, tmp_path):
    assert run("embed", folder, "digits", "-o", tmp_path / "x.npy")[0] == 1
    assert run("embed", folder, "digits", "-o", tmp_path / "x.npz")[0] == 1
    assert run("embed", folder, "digits", "-o", tmp_path / "x.npy", "--pool", "max")[0] == 2
    assert run("embed", folder, "digits")[0] == 2
