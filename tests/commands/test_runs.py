"""``reprkit runs`` and ``reprkit report``: the state of runs, and their pages written again, without torch."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import reprkit as rk
from reprkit.commands.main import main
from reprkit.runs.run import Run


def run(*args):
    """The exit code of the command."""
    try:
        main(list(map(str, args)))
    except SystemExit as exited:
        return exited.code or 0
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a finished, a killed, a failed, a running and a damaged run."""
    top = tmp_path_factory.mktemp("top") / "runs"
    train, valid = rk.dataset("digits").subset(range(300)).split()
    model = rk.build(
        data=train, encoder="mlp(widths=(8,))", latent="gaussian(dim=3)", decoder="mlp(widths=(8,))"
    )
    rk.fit(
        model, train, steps=20, batch=32, out=top / "done", log_every=5, valid=valid, evaluate_every=10,
        evaluators=("reconstruction", "codebook", "projection(tsne=False)"), best="min reconstruction.error",
    )  # fmt: skip
    record = Run(top / "done").record
    stage = {**record["stages"]["main"], "status": "running", "step": 7, "saved": 5, "best": None}
    killed = {
        **record,
        "status": "running",
        "pid": 2**22 + 1,
        "command": "python mine.py",
        "folder": "/elsewhere/of mine",
        "source": {"recipe": {"resumable": True}},
    }
    write(top / "deep" / "killed", {**killed, "stages": {"main": stage}})
    with (top / "deep" / "killed" / "metrics.jsonl").open("w") as file:
        file.write('{"step": 5, "loss": 2.5, "terms": {"kl": 1.0}}\n{"step": 6, "lo')
    stages = {"ae": {**stage, "status": "finished"}, "gan": {**stage, "status": "failed"}}
    write(
        top / "failed",
        {
            **record,
            "status": "failed",
            "error": "TrainingError: the loss is nan\n  more",
            "stages": stages,
            "command": "python r.py --resume",
        },
    )
    write(top / "live", {**killed, "pid": os.getppid(), "stages": {"main": stage}})
    write(top / "done" / "state" / "hidden", record)
    write(top / ".replaced", record)
    (top / "odd").mkdir()
    (top / "odd" / "run.json").write_text("{")
    return top


def write(folder, record):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))


def test_runs_are_listed_with_their_state(folder, capsys):
    assert run("runs", folder) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:2] == ["run", "state"]
    table = {line[0]: line[1] for line in lines[1:6]}
    assert table == {
        "deep/killed": "killed",
        "done": "finished",
        "failed": "failed",
        "live": "running",
        "odd": "damaged",
    }
    assert list(table) == sorted(table)


def test_rows_have_progress_and_the_command_to_resume(folder, capsys):
    assert run("runs", folder, "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    done = rows["done"]
    assert (done["step"], done["steps"], done["resume"]) == (20, 20, None)
    assert done["best"] == Run(folder / "done").best
    assert done["loss"] == Run(folder / "done").metrics[-1]["loss"]
    killed = rows["deep/killed"]
    assert (killed["step"], killed["saved"], killed["loss"]) == (7, 5, 2.5)
    assert killed["resume"] == "cd '/elsewhere/of mine' && python mine.py --resume"
    failed = rows["failed"]
    assert (failed["stage"], failed["error"]) == ("gan", "TrainingError: the loss is nan")
    assert failed["resume"].endswith("python r.py --resume")
    assert failed["resume"].count("--resume") == 1
    assert rows["live"]["resume"] is None
    assert run("runs", folder) == 0
    out = capsys.readouterr().out
    assert (
        "deep/killed: saved at step 5; to resume:\n  cd '/elsewhere/of mine' && python mine.py --resume"
        in out
    )
    assert "failed failed: TrainingError: the loss is nan" in out
    assert "gan 7/20" in out
    assert re.search(r"done .*20/20 .*reconstruction\.error \d", out)


def test_a_folder_without_runs(tmp_path, capsys):
    assert run("runs", tmp_path) == 0
    assert "no runs below" in capsys.readouterr().out
    assert run("runs", tmp_path / "nothing") == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_page_is_written_again_unchanged(folder, capsys):
    page = folder / "done" / "report.html"
    before = re.sub("Made by .*", "", page.read_text())
    assert "data:image/png" in before
    page.unlink()
    results = (folder / "done" / "results.json").read_bytes()
    assert run("report", folder / "done") == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert re.sub("Made by .*", "", page.read_text()) == before
    assert (folder / "done" / "results.json").read_bytes() == results


def test_a_page_of_a_killed_run(folder, capsys):
    assert run("report", folder / "deep" / "killed") == 0
    text = Path(capsys.readouterr().out.strip()).read_text()
    assert "killed" in text
    assert "7 of 20" in text
    assert "total loss" in text


def test_the_page_of_a_comparison_is_written_again(folder, capsys):
    results = rk.evaluate(
        "pca(dim=2)", rk.dataset("digits").subset(range(60)), "reconstruction", fit_on="digits"
    )
    own = rk.reporting.Section("Mine", [rk.reporting.Note("my own words")])
    table = {"one": results, "two": results}
    page = rk.report(
        folder / "both", table, title="Two", verdict="Alike.", sections=[own], baselines={"three": {"knn": {"accuracy": 0.5}}},
        columns={"reconstruction.error": "my error"},
    )  # fmt: skip
    before = re.sub("Made by .*", "", page.read_text())
    assert all(words in before for words in ("Two", "Alike.", "my own words", "three", "my error"))
    assert run("report", folder / "both") == 0
    assert re.sub("Made by .*", "", page.read_text()) == before


def test_a_folder_that_is_no_run_raises(folder, tmp_path, capsys):
    assert run("report", folder) == 1
    err = capsys.readouterr().err
    assert "is not a run: it has none of run.json" in err
    assert str(folder / "deep" / "killed") in err
    assert run("report", folder / "dome") == 1
    assert "Did you mean 'done'?" in capsys.readouterr().err


def test_a_damaged_page_store_is_noted(folder, tmp_path, capsys):
    (tmp_path / "figures.npz").write_bytes(b"PK nonsense")
    (tmp_path / "results.json").write_text('{"knn": {"accuracy": 0.5}}')
    assert run("report", tmp_path) == 0
    assert "figures.npz is damaged" in (tmp_path / "report.html").read_text()


def test_inspect_shows_the_best_model(folder, capsys):
    assert run("inspect", folder / "done" / "best", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["run"]
    best = Run(folder / "done").best
    assert shown["metrics"] == {"reconstruction.error": best["value"]}
    assert shown["best"] == {"main": best}
    assert run("inspect", folder / "done") == 0
    assert f"kept at step {best['step']}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["runs", "report"])
def test_runs_and_report_do_not_import_torch(folder, command):
    target = folder if command == "runs" else folder / "done"
    code = f"""
import sys
from reprkit.commands.main import main
try: main([{command!r}, {str(target)!r}])
except SystemExit as exited: assert not exited.code
print([name for name in ("torch", "sklearn", "accelerate", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_writing_a_page_during_training_does_not_change_the_run(tmp_path, capsys):
    recipe = Path(__file__).parents[1] / "training" / "recipe.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    outs = [tmp_path / "quiet", tmp_path / "watched"]
    for out in outs:
        process = subprocess.Popen(
            [sys.executable, str(recipe), str(out)],
            env={**environment, "PAUSE": "0.02"},
            stdout=subprocess.DEVNULL,
        )
        while process.poll() is None and out.name == "watched":
            if (out / "run.json").exists():
                assert run("report", out) == 0
                assert run("runs", tmp_path) == 0
            time.sleep(0.05)
        assert process.wait(120) == 0
    capsys.readouterr()
    quiet, watched = ([line["loss"] for line in Run(out).metrics] for out in outs)
    assert quiet == watched
    assert (outs[1] / "report.html").exists()


def test_a_damaged_record_hides_no_other_run(tmp_path, capsys):
    for name, record in {
        "a": {"stages": {"main": {"seconds": "x"}}},
        "b": {"status": "finished", "stages": {"main": {"status": "finished", "step": 3, "steps": 3}}},
        "c": {"status": "stopped", "command": "python 'x.py", "stages": {"main": {"step": 1, "steps": 3}}},
        "d": {"status": "running", "pid": 2**62, "host": socket.gethostname()},
    }.items():
        write(tmp_path / name, record)
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 1, "loss": "x"}\n')
    assert run("runs", tmp_path) == 0
    out = capsys.readouterr().out
    for name, state in {"a": "damaged", "b": "finished", "c": "stopped", "d": "killed"}.items():
        assert re.search(rf"^{name} +{state}", out, flags=re.MULTILINE), out
    assert "stages.main.seconds must be a number" in out
