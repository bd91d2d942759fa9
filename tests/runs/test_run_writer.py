"""Writing a run's folder: its contents, reading it back, and handling an earlier run."""

import json
import re
import shlex
import sys

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import CheckpointError, TrainingError
from reprkit.runs.metrics import to_json_value
from reprkit.runs.reader import read_metrics, read_record
from reprkit.runs.run import Run, write_results
from reprkit.training.loop_iterator import default_log_every


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits").split()


def make(digits, **more):
    return rk.build(
        data=digits[0],
        encoder="mlp(widths=(16,))",
        latent="gaussian(dim=3)",
        decoder="mlp(widths=(16,))",
        **more,
    )


def fit(model, digits, **options):
    return rk.fit(model, digits[0], **{"steps": 6, "batch": 32, "log_every": 2, **options})


def test_fit_equals_the_loop(digits):
    model, other = make(digits), make(digits)
    run = fit(model, digits, lr=1e-2)
    for step in rk.loop(other, digits[0], steps=6, batch=32, lr=1e-2):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert run.model is model
    assert run.results == {}
    assert run.out is None
    assert [line["step"] for line in run.metrics] == [2, 4, 6]
    assert run.status == "finished"


def test_fit_evaluates_saves_and_reports(digits, tmp_path):
    run = fit(
        make(digits),
        digits,
        valid=digits[1],
        evaluators=("reconstruction", "knn"),
        evaluate_every=3,
        out=tmp_path,
    )
    assert 0 < run.results["knn"]["accuracy"] <= 1
    evaluated = {line["step"]: line["results"] for line in run.metrics if "results" in line}
    assert evaluated.keys() == {3, 6}
    assert evaluated[6]["knn"]["accuracy"] == run.results["knn"]["accuracy"]
    for name in ("run.json", "metrics.jsonl", "results.json", "report.html", "model/reprkit.json"):
        assert (tmp_path / name).exists(), name
    again = Run(tmp_path)
    assert again.results["knn"]["accuracy"] == run.results["knn"]["accuracy"]
    batch = digits[1].batch(range(4))
    assert torch.equal(again.model.encode(batch).z, run.model.encode(batch).z)
    steps, values = again.curves()["results.knn.accuracy"]
    assert steps == [3, 6]
    assert len(values) == 2


def test_fit_fails_early_if_the_model_cannot_be_saved(digits, tmp_path):
    class Mine(rk.Latent):
        def __init__(self) -> None:
            super().__init__(in_dim=2, out_dim=2)

        def forward(self, features: rk.Features) -> rk.Code:
            return rk.Code.of(features, z=features.x)

    model = rk.build(data=digits[0], encoder="mlp(widths=(8,))", latent=Mine(), decoder="mlp(widths=(8,))")
    with pytest.raises(CheckpointError, match="latent Mine of factor code cannot be saved"):
        fit(model, digits, out=tmp_path)
    assert fit(model, digits).metrics, "in memory it trains"


def test_record_describes_the_run(digits, tmp_path):
    fit(make(digits), digits, out=tmp_path, seed=4, optimizer="adam", schedule="cosine")
    record = read_record(tmp_path)
    assert record["status"] == "finished"
    assert shlex.split(record["command"])[1:] == sys.orig_argv[1:]
    assert record["seed"] == 4
    assert record["data"]["signature"] == json.loads(json.dumps(digits[0].signature.to_json()))
    assert record["data"]["size"] == len(digits[0])
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["reprkit"] == rk.__version__
    assert record["versions"]["python"].startswith(f"{sys.version_info.major}.")
    stage = record["stages"]["main"]
    assert (stage["steps"], stage["step"], stage["saved"], stage["batch"]) == (6, 6, 6, 32)
    assert (stage["optimizer"], stage["schedule"], stage["device"], stage["ranks"]) == (
        "adam",
        "cosine",
        "cpu",
        1,
    )
    assert stage["model"]["factors"]["code"]["latent"] == "reprkit/gaussian(dim=3)"
    assert record["started"] <= record["ended"]


@pytest.mark.slow
def test_sum_of_objectives_is_recorded_as_written(digits, tmp_path):
    fit(make(digits, objective="reconstruction + 0.5 * denoising"), digits, out=tmp_path)
    assert (
        read_record(tmp_path)["stages"]["main"]["model"]["objective"]
        == "reprkit/reconstruction + 0.5 * reprkit/denoising"
    )


def test_a_folder_that_holds_a_run_is_refused(digits, tmp_path):
    fit(make(digits), digits, out=tmp_path, valid=digits[1])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(TrainingError) as refused:
        fit(make(digits), digits, out=tmp_path)
    message = str(refused.value)
    assert re.search(
        r"holds a run: gaussian\(dim=3\) on digits \(train\), 6 steps, finished, \d{4}-\d\d-\d\d \d\d:\d\d, reconstruction",
        message,
    )
    assert all(
        words in message for words in ("another out=", "resume=True to continue", "overwrite=True to replace")
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert fit(make(digits), digits, out=tmp_path, resume=True).status == "finished"
    with pytest.raises(TrainingError, match="pass one of them"):
        fit(make(digits), digits, out=tmp_path, resume=True, overwrite=True)


def test_overwrite_moves_the_earlier_run_aside(digits, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    fit(make(digits), digits, out=tmp_path, lr=1e-2)
    before = (tmp_path / "metrics.jsonl").read_text()
    fit(make(digits), digits, out=tmp_path, lr=1e-3, overwrite=True)
    assert len(read_metrics(tmp_path)) == 3
    assert (tmp_path / ".replaced" / "metrics.jsonl").read_text() == before
    assert (tmp_path / ".replaced" / "model" / "reprkit.json").exists()
    assert (tmp_path / ".replaced" / "state").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_folders_that_only_have_the_name_are_left_alone(digits, tmp_path):
    """``out`` may be a project of one's own with a package called model."""
    for name in ("model", "best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text("x = 1")
    for _ in range(2):
        for step in rk.loop(
            make(digits), digits[0], steps=2, batch=32, out=tmp_path, log_every=1, overwrite=True
        ):
            step.backward(step.model(step.batch).total)
            step.update()
    for name in ("model", "best"):
        assert (tmp_path / name / "mine.py").read_text() == "x = 1"
    with pytest.raises(CheckpointError, match="is not a checkpoint that could be replaced"):
        fit(make(digits), digits, out=tmp_path, overwrite=True)
    assert len(read_metrics(tmp_path)) == 2, "refused before anything is replaced"


def test_a_model_without_a_record_is_not_replaced(digits, tmp_path):
    make(digits).save(tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    for options in ({}, {"resume": True}):
        with pytest.raises(TrainingError, match="model"):
            fit(make(digits, seed=1), digits, out=tmp_path, **options)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def test_a_run_that_ended_before_it_logged_anything_is_no_obstacle(digits, tmp_path):
    for _ in range(2):
        for step in rk.loop(make(digits), digits[0], steps=6, batch=32, out=tmp_path):
            step.update()
            if step.index == 2:
                break
    assert Run(tmp_path).status == "stopped"


def test_a_stopped_run_is_refused_with_its_steps(digits, tmp_path):
    for step in rk.loop(make(digits), digits[0], steps=6, batch=32, out=tmp_path, save_every=1e-9):
        step.backward(step.model(step.batch).total)
        step.update()
        if step.index == 3:
            break
    assert Run(tmp_path).status == "stopped"
    with pytest.raises(TrainingError, match=r"3 of 6 steps, stopped"):
        fit(make(digits), digits, out=tmp_path)
    assert (tmp_path / "state" / "step-000000003").exists()


def test_results_keep_json_values_only(tmp_path):
    found = {
        "a": {
            "x": torch.tensor(1.5),
            "y": np.float32(2),
            "z": np.zeros(3),
            "n": np.int64(3),
            "bad": float("inf"),
        },
        "figures": {},
    }
    write_results(tmp_path / "new", found)
    assert Run(tmp_path / "new", model=object()).results == {"a": {"x": 1.5, "y": 2.0, "n": 3, "bad": None}}
    assert to_json_value({"t": "text", "b": True, "none": None}) == {"t": "text", "b": True, "none": None}


def test_errors_for_missing_and_damaged_runs(tmp_path):
    with pytest.raises(TrainingError, match=r"is not a run: it has no run.json"):
        Run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(TrainingError, match="is damaged"):
        _ = Run(tmp_path).status


def test_progress_bar_is_shown_only_for_long_runs(digits, capsys, monkeypatch):
    fit(make(digits), digits, progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("reprkit.utils.progress.PATIENCE", 0.0)
    monkeypatch.setattr("reprkit.utils.progress.PERIOD", 0.0)
    fit(make(digits), digits, progress=True)
    shown = capsys.readouterr().err
    assert "training" in shown
    assert "6/6" in shown
    assert re.search(r"\d/s .*left \d:\d\d:\d\d", shown), "rate and time left"
    fit(make(digits), digits, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_a_resume_of_a_run_that_saved_nothing_starts_its_metrics_anew(digits, tmp_path):
    for stage in ("first", "second"):
        for step in rk.loop(
            make(digits), digits[0], steps=6, batch=32, out=tmp_path, stage=stage, log_every=1
        ):
            step.backward(step.model(step.batch).total)
            step.update()
            if stage == "second" and step.index == 4:
                break
    assert [line["stage"] for line in read_metrics(tmp_path)].count("second") == 4
    fit(make(digits), digits, out=tmp_path, stage="second", resume=True)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines if line["stage"] == "second"] == [2, 4, 6]
    assert [line["step"] for line in lines if line["stage"] == "first"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_the_page_of_a_fit_without_other_data_shows_the_model(digits, tmp_path):
    """Parts, the latent's name and reconstructions of training data, which is said; a short run has a curve, not a point."""
    run = rk.fit(make(digits), digits[0], steps=40, batch=32, out=tmp_path)
    assert run.results == {}
    assert [line["step"] for line in run.metrics] == list(range(2, 41, 2))
    text = (tmp_path / "report.html").read_text()
    assert "<h1>gaussian(dim=3) on digits (train)</h1>" in text
    assert "pass valid= to rk.fit" in text
    assert "The examples are of the training data" in text
    assert text.count('alt="reconstruction ') == 16
    assert "reprkit/gaussian(dim=3)" in text
    assert "parameters</p>" in text


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (19, 1), (100, 5), (999, 49), (1000, 50), (10**6, 50)])
def test_default_interval_of_the_log(steps, every):
    assert default_log_every(steps) == every
