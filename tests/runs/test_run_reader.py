"""Reading a run from its folder: complete, damaged and missing files."""

import json
import os
import re
import socket

import pytest

from reprkit.errors import TrainingError
from reprkit.runs.reader import (
    curves,
    find_runs,
    is_run,
    read_last_line,
    read_metrics,
    read_record,
    read_results,
    read_run,
    run_of,
    status_of,
)

RECORD = {
    "command": "python mine.py",
    "folder": "/elsewhere/of mine",
    "status": "finished",
    "stages": {
        "ae": {"status": "finished", "step": 9, "seconds": 2.0, "best": {"metric": "knn.accuracy", "value": 0.75, "step": 5}},
        "gan": {"status": "stopped", "step": 4, "seconds": 1.5},
    },
}  # fmt: skip


def write_run(folder, record=None, results=None, lines=()):
    folder.mkdir(parents=True, exist_ok=True)
    if record is not None:
        (folder / "run.json").write_text(json.dumps(record))
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
    if lines:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    return folder


def test_run_with_all_files(tmp_path):
    lines = [{"step": 1, "loss": 3}, {"step": 9, "loss": 2, "terms": {"kl": 1.0}}]
    run = read_run(write_run(tmp_path, RECORD, {"knn": {"accuracy": 0.5, "n": 3, "odd": None}}, lines))
    assert (run.folder, run.record, run.notes, run.status) == (tmp_path, RECORD, [], "finished")
    assert run.source == "results.json"
    assert list(run.metrics) == ["knn.accuracy", "knn.n", "knn.odd"]
    assert (run.metrics["knn.accuracy"], run.metrics["knn.n"]) == (0.5, 3)
    assert run.metrics["knn.odd"] != run.metrics["knn.odd"], "NaN"
    assert run.last_line == lines[1]
    assert (run.stage, run.seconds, run.best) == ("gan", 3.5, RECORD["stages"]["ae"]["best"])
    assert run.resume_command is None, "nobody knows whether this script has such a flag"
    assert (
        run.resume_advice
        == "pass resume=True and the same out= to its rk.loop or rk.fit (it was started by: python mine.py)"
    )
    assert run.curves() == {"loss": ([1, 9], [3.0, 2.0]), "terms.kl": ([9], [1.0])}


@pytest.mark.parametrize(
    ("command", "resumed"),
    [
        ("python mine.py", "python mine.py --out 'runs/x 2' --resume"),
        ("python mine.py --overwrite --steps 3", "python mine.py --steps 3 --out 'runs/x 2' --resume"),
        ("python mine.py --out y --resume", "python mine.py --out y --resume"),
    ],
)
def test_a_recipe_is_resumed_by_its_command(tmp_path, monkeypatch, command, resumed):
    recipe = {"out": "runs/x 2", "resumable": True}
    record = {"command": command, "folder": os.getcwd(), "source": {"recipe": recipe}}
    run = read_run(write_run(tmp_path, record))
    assert run.resume_command == run.resume_advice == resumed
    monkeypatch.chdir(tmp_path)
    assert run.resume_command == f"cd {record['folder']} && {resumed}"


def test_without_results_metrics_are_the_last_line(tmp_path):
    run = read_run(write_run(tmp_path, RECORD, lines=[{"step": 1}, {"step": 2, "terms": {"kl": 0.5}}]))
    assert (run.metrics, run.source) == ({"step": 2, "terms.kl": 0.5}, "metrics.jsonl")


def test_folder_without_a_run_gives_an_empty_run(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        run = read_run(folder)
        assert (run.record, run.results, run.metrics, run.last_line, run.notes) == ({}, {}, {}, {}, [])
        assert (run.status, run.stage, run.best, run.resume_command, run.curves()) == (
            "unknown",
            None,
            None,
            None,
            {},
        )
        assert not is_run(folder)


def test_damaged_files_are_noted_and_others_read(tmp_path):
    write_run(tmp_path, RECORD, lines=[{"step": 1, "loss": 2.0}])
    (tmp_path / "results.json").write_text("[1]")
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "lo\n[]\n\xff\xfe\n{"step": 3, "loss": 1.0}\n{"step": 4')
    run = read_run(tmp_path)
    assert run.notes == [f"{tmp_path / 'results.json'} is damaged: it holds a list, not an object"]
    assert run.metrics == {"step": 3, "loss": 1.0}
    assert run.curves() == {"loss": ([1, 3], [2.0, 1.0])}
    assert run.faults["metrics.jsonl"].endswith("metrics.jsonl is damaged: lines 2, 3, 4 cannot be read")
    (tmp_path / "run.json").write_text("{")
    assert "run.json is damaged: " in read_run(tmp_path).faults["run.json"]
    for read in (read_record, read_results):
        with pytest.raises(TrainingError, match="is damaged"):
            read(tmp_path)


def test_duplicate_metric_names_are_a_fault_of_the_file(tmp_path):
    run = read_run(write_run(tmp_path, results={"e": {"a.b": 1, "a": {"b": 2}}}))
    assert "two metrics are called 'e.a.b'" in run.faults["results.json"]
    assert run.metrics == {}


def test_run_of_a_checkpoint(tmp_path):
    results = {"knn": {"accuracy": 0.5}}
    out = write_run(tmp_path / "run", RECORD, results)
    for inside in ("model", "best/ae", "best"):
        (out / inside).mkdir(parents=True, exist_ok=True)
    assert run_of(out).metrics == run_of(out / "model").metrics == {"knn.accuracy": 0.5}
    best = run_of(out / "best" / "ae")
    assert (best.folder, best.metrics, best.source) == (out, {"knn.accuracy": 0.75}, "run.json, step 5")
    write_run(tmp_path / "one", {"stages": {"main": RECORD["stages"]["ae"]}}, results)
    assert run_of(tmp_path / "one" / "best").metrics == {"knn.accuracy": 0.75}
    assert run_of(tmp_path / "alone" / "model").folder is None
    assert run_of(out / "other").folder is None, "a model beside others is of no run"


def test_find_runs(tmp_path):
    for name in ("b", "a/deep", "b/state/hidden", "b/inner", ".replaced"):
        write_run(tmp_path / name, RECORD)
    (tmp_path / "empty").mkdir()
    found = [each.relative_to(tmp_path).as_posix() for each in find_runs(tmp_path)]
    assert found == ["a/deep", "b", "b/inner"]


def test_last_line_is_read_from_the_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_last_line(tmp_path) == {}
    path.write_text("")
    assert read_last_line(tmp_path) == {}
    with path.open("w") as file:
        for step in range(3000):
            file.write(json.dumps({"step": step, "text": "x" * 50}) + "\n")
        file.write('{"step": 3000, "te')
    assert read_last_line(tmp_path)["step"] == 2999


def test_status_of_an_ended_process():
    gone = {"status": "running", "host": socket.gethostname(), "pid": 2**22 + 1}
    assert status_of(gone) == "killed"
    assert status_of({**gone, "pid": os.getpid()}) == "running"
    assert status_of({**gone, "host": "elsewhere"}) == "running", "who knows"
    assert status_of({**gone, "status": "failed"}) == "failed"


def test_truncated_line_is_omitted(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]
    assert read_metrics(tmp_path / "nothing") == []


def test_curves_flatten_logged_lines():
    lines = [
        {"step": 1, "loss": 3, "terms": {"kl": 1.0}},
        {"step": 5, "loss": 2, "results": {"knn": {"accuracy": 0.5, "note": "x"}}},
    ]
    assert curves(lines) == {
        "loss": ([1, 5], [3.0, 2.0]),
        "terms.kl": ([1], [1.0]),
        "results.knn.accuracy": ([5], [0.5]),
    }


@pytest.mark.parametrize(
    ("record", "where"),
    [
        ({"stages": {"main": {"seconds": "x"}}}, "stages.main.seconds must be a number"),
        ({"stages": {"main": {"best": {"metric": "loss"}}}}, "stages.main.best.value is missing"),
        ({"stages": []}, "stages must be an object"),
        ({"versions": {"torch": 2}}, "versions.torch must be a text"),
        ({"warnings": ["x"]}, "must be an object"),
        ({"data": {"signature": {"x": {"kind": "image"}}}}, "data.signature.x.shape is missing"),
        ({"pid": "1"}, "pid must be an integer"),
        ({"pid": 10**400}, "64 bits"),
    ],
)
def test_entries_of_wrong_types_are_a_fault_of_the_record(record, where, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(record))
    run = read_run(tmp_path)
    assert run.record == {}
    assert where in run.faults["run.json"]
    with pytest.raises(TrainingError, match=re.escape(where)):
        read_record(tmp_path)


def test_numbers_that_no_chart_takes_are_no_metrics(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    lines = [
        '{"step": 1e300, "loss": 1}',
        '{"step": "x", "loss": 2}',
        '{"step": 3, "loss": 1e999}',
        '{"step": 4, "loss": 3}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert read_run(tmp_path).curves() == {"loss": ([0, 4], [2.0, 3.0])}


def test_links_to_devices_are_not_read(tmp_path):
    for name in ("run.json", "metrics.jsonl", "results.json"):
        (tmp_path / name).symlink_to("/dev/zero")
    run = read_run(tmp_path)
    assert run.curves() == {}
    assert set(run.faults) == {"run.json", "results.json"}
    assert "no regular file" in run.faults["run.json"]
