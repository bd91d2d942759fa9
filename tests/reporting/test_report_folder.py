"""What ``rk.report`` does with the folder: no folder for a mistyped name, and no results lost."""

import json

import pytest

import reprkit as rk
from reprkit.errors import CheckpointError, TrainingError
from reprkit.reporting import writer


def test_a_mistyped_folder_is_not_made(tmp_path):
    rk.report(tmp_path / "first", {"knn": {"accuracy": 0.5}})
    with pytest.raises(TrainingError, match=r"there is no folder .*frist. Did you mean 'first'\?"):
        rk.report(tmp_path / "frist")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="is not a run"):
        rk.report(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "first"]
    assert not list((tmp_path / "empty").iterdir())
    assert rk.report(tmp_path / "first").exists()


def test_results_of_an_earlier_process_are_renamed_and_not_replaced(tmp_path, monkeypatch, recwarn):
    def accuracy(name="results.json"):
        return json.loads((tmp_path / name).read_text())["knn"]["accuracy"]

    for value in (0.5, 0.6):  # in one process a run's report is written as often as one likes
        rk.report(tmp_path, {"knn": {"accuracy": value}})
    monkeypatch.setattr(writer, "_own_results", {})
    rk.report(tmp_path, {"knn": {"accuracy": 0.6}})
    monkeypatch.setattr(writer, "_own_results", {})
    rk.report(tmp_path)
    assert not recwarn.list
    for number, value in enumerate((0.7, 0.8), 1):
        monkeypatch.setattr(writer, "_own_results", {})
        with pytest.warns(
            UserWarning,
            match=rf"other results; they are kept as results-{number}.json, .*report-{number}.html",
        ):
            rk.report(tmp_path, {"knn": {"accuracy": value}})
    assert (accuracy(), accuracy("results-1.json"), accuracy("results-2.json")) == (0.8, 0.6, 0.7)


def test_an_export_replaces_no_file_unasked(tmp_path):
    model = rk.build(
        data="digits", encoder="mlp(widths=(4,))", latent="continuous(dim=2)", decoder="mlp(widths=(4,))"
    )
    (tmp_path / "encoder.pt2").write_text("mine")
    with pytest.raises(CheckpointError, match=r"encoder.pt2' exists already; .*overwrite=True"):
        rk.export(model, tmp_path / "encoder.pt2")
    assert (tmp_path / "encoder.pt2").read_text() == "mine"
