"""``reconstruct``, ``sample``, ``score``, ``search``, ``compress``, ``decompress`` and ``export``: files, JSON, wrong usage."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import reprkit as rk
from reprkit.data.formats.table import Table

pytestmark = pytest.mark.slow  # together over two seconds on an idle core


@pytest.fixture
def digits(tmp_path):
    """A file of six digits."""
    x = rk.dataset("digits").batch(range(6))["x"].numpy()
    np.save(tmp_path / "six.npy", x)
    return f"arrays(path={str(tmp_path / 'six.npy')!r}, kinds={{'x': 'image'}}, ranges={{'x': (0, 1)}})", x


@pytest.fixture
def pictures(tmp_path):
    """A folder of three pictures of other sizes than the model's."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, size in (("b", 20), ("a", 9), ("c", 8)):
        Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def test_reconstructions_are_those_of_the_model(run, models, digits, tmp_path):
    reference, x = digits
    out = tmp_path / "new" / "out.npy"
    code, printed, err = run("reconstruct", models["gaussian"], reference, "-o", out, "--json", "--batch", 4)
    assert (code, json.loads(printed)) == (0, {"files": [str(out)], "examples": 6}), err
    model = rk.load(models["gaussian"])
    with torch.no_grad():
        expected = model.to_batch(model.decode(model.encode({"x": torch.from_numpy(x)})))["x"].clamp(0, 1)
    np.testing.assert_allclose(np.load(out), expected.numpy(), atol=1e-6)
    code, _, err = run("reconstruct", models["gaussian"], reference, "-o", out)
    assert (code, "exists already" in err) == (1, True)
    assert run("reconstruct", models["gaussian"], reference, "-o", out, "--overwrite")[0] == 0
    code, _, err = run("reconstruct", models["gaussian"], reference, "-o", tmp_path / "out.csv")
    assert (code, "suffix that image data is not written to" in err) == (1, True)


def test_pictures_of_any_size_keep_their_names(run, models, pictures, tmp_path):
    code, printed, _ = run("reconstruct", models["gaussian"], pictures, "-o", tmp_path / "out")
    assert code == 0
    assert "3 files, a.png to c.png" in printed
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["a.png", "b.png", "c.png"]
    assert Image.open(tmp_path / "out/a.png").size == (8, 8)
    two = (pictures / "c.png", pictures / "b.png")
    code, printed, _ = run("reconstruct", models["gaussian"], *two, "-o", tmp_path / "two.png")
    assert (code, Image.open(tmp_path / "two.png").size) == (0, (8, 16))
    code, _, err = run("reconstruct", models["gaussian"], two[0], pictures / "none.png", "-o", tmp_path / "x")
    assert (code, "no file" in err) == (1, True)
    (pictures / "d.png").write_bytes(b"no picture")
    code, _, err = run("reconstruct", models["gaussian"], pictures, "-o", tmp_path / "x")
    assert (code, "d.png cannot be read" in err) == (1, False)
    assert "cannot be read" in err


def test_a_folder_with_a_dot_is_the_model_here(run, models, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(models["vq"])
    assert run("reconstruct", ".", digits[0], "-o", tmp_path / "out.npy")[0] == 0
    assert run("inspect", ".", "--json")[0] == 0


def test_a_table_comes_back_with_its_columns(run, tmp_path):
    frame = pd.DataFrame({"age": np.arange(30.0), "city": ["Rome", "Oslo"] * 15})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    model = rk.build(
        data=Table(frame), encoder="mlp(width=8)", latent="gaussian(dim=3)", decoder="mlp(width=8)"
    )
    model.save(tmp_path / "model")
    assert run("reconstruct", tmp_path / "model", tmp_path / "rows.csv", "-o", tmp_path / "out.csv")[0] == 0
    assert run("sample", tmp_path / "model", "-n", 4, "-o", tmp_path / "drawn.csv")[0] == 0
    for name, rows in (("out.csv", 30), ("drawn.csv", 4)):
        found = pd.read_csv(tmp_path / name)
        assert list(found) == ["age", "city"]
        assert len(found) == rows
        assert set(found["city"]) <= {"Rome", "Oslo"}


def test_samples_depend_on_the_seed_alone(run, models, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert (
            run("sample", models["gaussian"], "-n", 5, "-o", tmp_path / f"{name}.npy", "--seed", seed)[0] == 0
        )
    a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert a.shape == (5, 8, 8, 1)
    assert (a == b).all()
    assert (a != c).any()
    code, _, err = run("sample", models["vq"], "-o", tmp_path / "x.npy")
    assert (code, "prior=DIR" in err) == (1, True)


def test_scores_are_those_of_the_evaluator(run, models, digits, tmp_path):
    reference, x = digits
    code, printed, _ = run(
        "score",
        models["gaussian"],
        reference,
        "--score",
        "error",
        "-o",
        tmp_path / "all.csv",
        "--json",
        "--top",
        2,
    )
    found = json.loads(printed)
    model = rk.load(models["gaussian"])
    with torch.no_grad():
        batch = {"x": torch.from_numpy(x)}
        expected = (
            (model.score(batch).decoded.x - model.score(batch).target).square().flatten(1).sum(1).numpy()
        )
    assert code == 0
    assert [row["index"] for row in found["top"]] == np.argsort(-expected)[:2].tolist()
    np.testing.assert_allclose(pd.read_csv(tmp_path / "all.csv")["score"], expected, rtol=1e-5)
    code, printed, _ = run(
        "score", models["gaussian"], reference, "--score", "neighbors", "--fit-on", "digits", "--k", 1
    )
    assert (code, "6 examples" in printed) == (0, True)
    code, _, err = run("score", models["gaussian"], reference, "--score", "neighbors")
    assert (code, "fit_on" in err) == (1, True)
    assert run("score", models["gaussian"], reference, "-o", tmp_path / "all.txt")[0] == 1
    assert run("score", models["gaussian"], reference, "--score", "nlll")[0] == 2


def test_columns_and_maps_that_explain_scores(run, models, digits, tmp_path):
    reference, _ = digits
    maps = tmp_path / "new" / "maps.npy"
    code, printed, err = run(
        "score", models["gaussian"], reference, "--score", "error", "--top", 2, "--maps", maps, "--json"
    )
    assert code == 0, err
    top = json.loads(printed)["top"]
    assert np.load(maps).shape == (2, 8, 8)
    np.testing.assert_allclose(np.load(maps).sum((1, 2)), [row["score"] for row in top], rtol=1e-5)
    scores = tmp_path / "scores.csv"
    code, _, err = run("score", models["gaussian"], reference, "--explain", 2, "--out", scores)
    assert (code, "only the columns of rows have names" in err) == (1, True)
    assert not scores.exists(), "it is refused before the work"
    code, _, err = run(
        "score", models["gaussian"], reference, "--score", "code-nll", "--maps", tmp_path / "a.npy"
    )
    assert (code, "is of the code" in err) == (1, True)
    assert run("score", models["gaussian"], reference, "--maps", tmp_path / "maps.csv")[0] == 1

    frame = pd.DataFrame({"age": np.arange(20.0), "city": ["Oslo", "Rome"] * 10})
    frame.to_csv(tmp_path / "people.csv", index=False)
    small = {"encoder": "mlp(width=8)", "latent": "continuous(dim=2)", "decoder": "mlp(width=8)"}
    model = rk.build(data=Table(frame), **small, seed=0).save(tmp_path / "model")
    code, printed, err = run("score", model, tmp_path / "people.csv", "--explain", 2, "--top", 3, "--json")
    assert code == 0, err
    first = json.loads(printed)["top"][0]
    assert {each["column"] for each in first["columns"]} == {"age", "city"}
    assert sum(each["contribution"] for each in first["columns"]) == pytest.approx(first["score"], rel=1e-5)
    assert {"column": "age", "value": float(first["index"])}.items() <= next(
        each for each in first["columns"] if each["column"] == "age"
    ).items()
    code, printed, _ = run("score", model, tmp_path / "people.csv", "--explain", 1, "--top", 3)
    assert (code, "contribution" in printed) == (0, True)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_the_nearest_examples_are_those_of_scikit_learn(run, models, digits, distance):
    from sklearn.neighbors import NearestNeighbors

    code, printed, _ = run(
        "search",
        models["gaussian"],
        "digits",
        digits[0],
        "-k",
        4,
        "--distance",
        distance,
        "--json",
        "--batch",
        300,
    )
    found = json.loads(printed)["results"]
    rows = rk.embed(rk.load(models["gaussian"]), rk.dataset("digits"), progress=False).astype(np.float64)
    distances, places = NearestNeighbors(n_neighbors=4, metric=distance).fit(rows).kneighbors(rows[:6])
    assert code == 0
    assert [[each["index"] for each in result["neighbors"]] for result in found] == places.tolist()
    given = [[each["distance"] for each in result["neighbors"]] for result in found]
    np.testing.assert_allclose(given, distances, atol=1e-6)
    assert found[0]["neighbors"][0]["labels"] == {"label": 0}


def test_compressed_examples_decode_to_the_reconstructions(run, models, pictures, digits, tmp_path):
    reference, _ = digits
    file = tmp_path / "six.rk"
    code, printed, _ = run("compress", models["vq"], reference, "-o", file, "--json", "--batch", 4)
    assert code == 0
    assert json.loads(printed)["bytes"] == file.stat().st_size
    assert run("decompress", models["vq"], file, "-o", tmp_path / "back.npy", "--batch", 5)[0] == 0
    assert run("reconstruct", models["vq"], reference, "-o", tmp_path / "direct.npy")[0] == 0
    np.testing.assert_allclose(np.load(tmp_path / "back.npy"), np.load(tmp_path / "direct.npy"), atol=1e-6)
    code, _, err = run("compress", models["vq"], reference, "-o", file)
    assert (code, "exists already" in err) == (1, True)
    code, _, err = run("compress", models["gaussian"], reference, "-o", tmp_path / "x.rk")
    assert (code, "only discrete codes can be compressed" in err) == (1, True)
    assert run("compress", models["vq"], reference, "-o", tmp_path / "x.zip")[0] == 1
    code, _, err = run("decompress", models["gaussian"], file, "-o", tmp_path / "x.npy")
    assert code == 1
    assert run("compress", models["vq"], pictures, "-o", tmp_path / "pictures.rk")[0] == 0
    assert run("decompress", models["vq"], tmp_path / "pictures.rk", "-o", tmp_path / "back")[0] == 0
    assert [path.name for path in sorted((tmp_path / "back").iterdir())] == ["a.png", "b.png", "c.png"]


def test_without_a_model_the_one_below_runs_that_wrote_the_file_decodes_it(
    run, models, digits, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run("compress", models["vq"], digits[0], "-o", "six.rk")[0] == 0
    for name in ("gaussian", "vq"):
        shutil.copytree(models[name], tmp_path / "runs" / name / "model")
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "reprkit.json").write_text("{")
    assert run("decompress", "six.rk", "-o", "found.npy")[0] == 0
    assert run("decompress", models["vq"], "six.rk", "-o", "named.npy")[0] == 0
    np.testing.assert_array_equal(np.load("found.npy"), np.load("named.npy"))
    shutil.rmtree(tmp_path / "runs" / "vq")
    code, _, err = run("decompress", "six.rk", "-o", "x.npy")
    assert (code, "none of the 2 models (1 of them cannot be read) below runs/ wrote six.rk" in err) == (
        1,
        True,
    )
    code, _, err = run("decompress", models["vq"], "six.rk", "seven.rk", "-o", "x.npy")
    assert (code, "a model and one file, not 3 paths" in err) == (1, True)


def test_exports_run_elsewhere_and_other_suffixes_are_refused(run, models, digits, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    expected = rk.embed(rk.load(models["gaussian"]), rk.dataset(digits[0]))
    code, printed, err = run("export", models["gaussian"], tmp_path / "a.onnx", "--json")
    assert code == 0, err
    assert json.loads(printed)["largest_difference"] < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    (found, *_) = session.run(None, {"x": digits[1]})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (tmp_path / "a.pt2").write_text("of an earlier export")
    assert run("export", models["gaussian"], tmp_path / "a.pt2")[0] == 1
    assert run("export", models["gaussian"], tmp_path / "a.pt2", "--overwrite")[0] == 0
    program = torch.export.load(tmp_path / "a.pt2").module()
    np.testing.assert_allclose(
        program({"x": torch.from_numpy(digits[1])})["representation"].detach(), expected, atol=1e-5
    )
    code, _, err = run("export", models["gaussian"], tmp_path / "a.onxx")
    assert (code, "Did you mean '.onnx'?" in err) == (1, True)
    code, _, err = run("export", models["gaussian"], tmp_path / "a.onnx")
    assert (code, "exists already" in err) == (1, True)


def test_a_device_that_is_not_here_is_one_sentence(run, models, digits, tmp_path):
    code, _, err = run("score", models["gaussian"], digits[0], "--device", "mps")
    assert (code, "device='mps' cannot be used here" in err) == (1, True)
