"""``reprkit train``, ``compare``, ``runs`` and ``report``: from a trained model to tables and pages."""

import json

import numpy as np
import pytest

import reprkit as rk


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.random.default_rng(0).normal(size=(80, 5)).astype("float32"))
    return "rows.npy"


@pytest.mark.slow
def test_a_model_is_trained_measured_and_saved(run, rows):
    flags = (
        "--data",
        rows,
        "--steps",
        5,
        "--batch",
        16,
        "--latent",
        "gaussian(dim=3)",
        "--schedule",
        "linear",
    )
    code, printed, err = run("train", *flags, "--out", "runs/a", "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert err.splitlines()[0] == "train: reading the data"
    assert set(found["left_out"]) == {"linear-probe", "knn"}
    assert "linear-probe is left out: " in err
    assert found["results"]["reconstruction"] == rk.training.Run("runs/a").results["reconstruction"]
    record = rk.training.Run("runs/a").record
    assert record["stages"]["main"]["schedule"] == "linear"
    train, _, test = rk.dataset(rows).split(seed=0, valid=True)
    again = rk.evaluate(rk.load("runs/a"), test, "reconstruction", fit_on=train)
    assert again["reconstruction"]["error"] == pytest.approx(found["results"]["reconstruction"]["error"])
    code, _, err = run("train", *flags, "--out", "runs/a")
    assert (code, "runs/a holds runs" in err) == (1, True)
    code, printed, _ = run("train", *flags, "--out", "runs/a", "--resume")
    assert (code, "page: runs/a/report.html" in printed) == (0, True)


@pytest.mark.slow
def test_an_objective_without_a_decoder_gets_none(run, rows):
    flags = (
        "--data",
        rows,
        "--steps",
        3,
        "--batch",
        16,
        "--objective",
        "contractive",
        "--latent",
        "continuous(dim=3)",
    )
    code, _, err = run("train", *flags, "--decoder", "none", "--out", "runs/b")
    assert code == 1
    assert "decoder" in err
    code, _, err = run("train", *flags, "--out", "runs/c", "--measure", "knn")
    assert (code, "none of the evaluators suits" in err) == (1, True)


def test_wrong_usage_of_train(run, rows):
    assert run("train", "--data", rows)[0] == 2
    code, _, err = run("train", "--data", rows, "--out", "runs/x", "--latent", "vqq")
    assert (code, "Did you mean 'vq'?" in err) == (1, True)
    code, _, err = run("train", "--data", rows, "--out", "runs/x", "--measure", "knnn")
    assert (code, "Did you mean 'knn'?" in err) == (1, True)


@pytest.fixture
def two_runs(tmp_path):
    for name, latent, accuracy, started in (
        ("a", "vq(codes=8)", 0.25, "2026-01-02T03:04:05+00:00"),
        ("b", "binary", 0.5, "2026-01-01T03:04:05+00:00"),
    ):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        model = {"factors": {"code": {"encoder": "reprkit/mlp", "latent": f"reprkit/{latent}"}}}
        record = {
            "status": "finished",
            "seed": 0,
            "started": started,
            "data": {"name": "digits (train)", "reference": "reprkit/digits"},
            "stages": {"main": {"model": model, "steps": 5, "step": 5, "seconds": 2.0, "status": "finished"}},
        }
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "results.json").write_text(json.dumps({"knn": {"accuracy": accuracy}}))
    return tmp_path / "runs"


def test_runs_have_latent_data_date_and_results(run, two_runs):
    code, printed, _ = run("runs", two_runs)
    assert code == 0
    assert printed.splitlines()[0].split() == [
        "run",
        "state",
        "latent",
        "data",
        "seed",
        "step",
        "date",
        "time",
        "results",
    ]
    shown = "a finished vq(codes=8) digits 0 5/5 2026-01-02 03:04 2 s k-NN 0.25"
    assert printed.splitlines()[1].split() == shown.split()
    for by, first in (
        ("date", "b"),
        ("-date", "a"),
        ("latent", "b"),
        ("knn.accuracy", "a"),
        ("-knn.accuracy", "b"),
    ):
        assert (
            next(row["name"] for row in json.loads(run("runs", two_runs, "--sort", by, "--json")[1])) == first
        )
    code, _, err = run("runs", two_runs, "--sort", "knn.accurac")
    assert (code, "Did you mean 'knn.accuracy'?" in err) == (1, True)


def test_compare(run, two_runs, tmp_path):
    code, printed, _ = run("compare", two_runs / "a", two_runs / "b", "--sort", "-knn.accuracy")
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines()[2:4]] == ["binary", "vq(codes=8)"]
    page = tmp_path / "page.html"
    assert json.loads(run("compare", two_runs, "-o", page, "--json")[1])["page"] == str(page)
    assert "vq(codes=8)" in page.read_text()
    code, _, err = run("compare", two_runs, "-o", page)
    assert (code, "exists already" in err) == (1, True)
    assert run("compare", two_runs, "-o", tmp_path / "page.pdf")[0] == 1
    code, _, err = run("compare", two_runs, "--column", "knn.acc")
    assert (code, "Did you mean 'knn.accuracy'?" in err) == (1, True)
    assert run("compare")[0] == 2


def test_report_takes_several_runs(run, two_runs):
    code, printed, _ = run("report", two_runs / "a", two_runs / "b")
    assert (code, len(printed.splitlines())) == (0, 2)
    assert (two_runs / "b/report.html").is_file()
    assert run("report", two_runs / "a", two_runs / "typo")[0] == 1
    assert not (two_runs / "typo").exists()
