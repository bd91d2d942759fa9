"""The folder that a recipe writes to: nothing that it holds is lost unless that was asked for."""

import json

import pytest

from reprkit.errors import TrainingError
from reprkit.training.recipe_folder import recipe_folder


def write_run(folder):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(
        json.dumps({"status": "finished", "stages": {"main": {"step": 3, "steps": 3}}})
    )
    (folder / "metrics.jsonl").write_text('{"step": 3, "loss": 2.0}\n')


def choose(out, *, given=False, resume=False, overwrite=False):
    return recipe_folder(out, given=given, resume=resume, overwrite=overwrite)


def test_a_folder_without_runs_is_used(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "notes.txt").write_text("mine")
    for out in (tmp_path / "x", tmp_path / "new" / "x"):
        assert all(choose(out, given=given) == out for given in (False, True))
        assert choose(out, resume=True) == out


def test_by_default_a_further_run_gets_a_number(tmp_path, capsys):
    out = tmp_path / "x"
    write_run(out / "vq")
    assert choose(out) == tmp_path / "x-2"
    assert "--resume continues them, --overwrite replaces those in" in capsys.readouterr().err
    write_run(tmp_path / "x-2")
    write_run(tmp_path / "x-10")
    write_run(tmp_path / "x-a")
    write_run(tmp_path / "x-011")
    assert choose(out) == tmp_path / "x-11"
    assert choose(out, resume=True) == tmp_path / "x-10"
    assert "the newest of 3" in capsys.readouterr().err
    assert choose(out, overwrite=True) == out


def test_a_given_folder_with_runs_is_refused(tmp_path):
    out = tmp_path / "x"
    write_run(out / "vq")
    with pytest.raises(
        TrainingError, match=r"x holds runs:\n  vq: 3 steps, finished, loss 2\n  give another folder by --out"
    ):
        choose(out, given=True)
    assert choose(out, given=True, resume=True) == choose(out, given=True, overwrite=True) == out


def test_a_comparison_is_described_by_what_it_compares(tmp_path):
    results = {name: {"knn": {"accuracy": 0.5}} for name in ("PCA, 2 dimensions", "vq", "fsq", "binary")}
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "results.json").write_text(json.dumps(results))
    with pytest.raises(TrainingError, match=r"x: results of 4: PCA, 2 dimensions, vq, fsq, \.\.\.\n"):
        choose(tmp_path / "x", given=True)


def test_of_many_runs_the_first_are_named(tmp_path):
    for number in range(12):
        write_run(tmp_path / "x" / f"run-{number:02}")
    with pytest.raises(TrainingError) as refused:
        choose(tmp_path / "x", given=True)
    assert str(refused.value).count("finished") == 8
    assert "\n  ...\n" in str(refused.value)


def test_several_processes_leave_the_check_to_the_loop(tmp_path, monkeypatch):
    write_run(tmp_path / "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert choose(tmp_path / "x") == choose(tmp_path / "x", given=True) == tmp_path / "x"
