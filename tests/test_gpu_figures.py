"""The script of docs/results/gpu.md: its time, what it says of an entry, and that it goes on after a failure."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch):
    path = ROOT / "tests/benchmarks/gpu_figures.py"
    spec = importlib.util.spec_from_file_location("gpu_figures", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_figures", module)
    spec.loader.exec_module(module)
    return module


def test_the_entries_fit_into_twelve_minutes_and_their_files_exist(script):
    assert sum(entry.seconds for entry in script.ENTRIES) <= 12 * 60
    named = [part for entry in script.ENTRIES for part in entry.command if part.endswith(".py")]
    assert len(named) > 5
    assert all((ROOT / name).is_file() for name in named)
    page = (ROOT / "docs/results/gpu.md").read_text(encoding="utf-8")
    for entry in script.ENTRIES:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{entry.name}`"))
        assert row.endswith(f"| {entry.seconds} s |")


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_failed_late_and_impossible_entries_are_reported_and_the_others_run(
    script, tmp_path, monkeypatch, capsys
):
    writes = "import pathlib, sys; print('a table'); pathlib.Path(sys.argv[1]).write_text('[1, 2]')"
    # What a process started runs on, unless the whole group is stopped.
    sleeps = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print(p.pid, flush=True); p.wait()"
    )
    monkeypatch.setattr(
        script,
        "ENTRIES",
        (
            script.Entry("fails", "", ("-c", "raise SystemExit(3)"), 60),
            script.Entry(
                "late", "", ("-c", sleeps), 5
            ),  # time enough to start and to print on a busy machine
            script.Entry("lacks", "", ("-c", ""), 60, ("no_such_package",)),
            script.Entry("two", "", ("-c", ""), 60, devices=2),
            script.Entry("text", "", ("-c", "", "{text}"), 60),
            script.Entry("works", "", ("-c", writes, "{out}"), 60),
        ),
    )
    monkeypatch.setattr(sys, "argv", ["gpu_figures.py", "--device", "cpu", "--out", str(tmp_path / "out")])
    assert script.main() == 2
    entries = json.loads((tmp_path / "out/figures.json").read_text())["entries"]
    states = {name: row["state"] for name, row in entries.items()}
    assert states["fails"] == "failed with code 3"
    assert states["late"] == "stopped after 5 s"
    assert states["lacks"] == "left out: it needs no_such_package"
    assert states["two"] == "left out: it needs 2 devices, and there are 1"
    assert states["text"].startswith("left out: it needs --text")
    assert states["works"] == "done"
    assert entries["works"]["figures"] == [1, 2]
    started = int((tmp_path / "out/late.log").read_text().split()[0])
    end = time.monotonic() + 5
    while is_running(started) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_running(started)
    printed = capsys.readouterr().out
    assert "a table" in printed
    assert "stopped after 5 s" in printed


def test_nothing_is_started_after_the_time_is_used_up(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "ENTRIES", (script.Entry("one", "", ("-c", "raise SystemExit(3)"), 60),))
    arguments = ["gpu_figures.py", "--device", "cpu", "--minutes", "0.01", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert script.main() == 0
    assert json.loads((tmp_path / "figures.json").read_text())["entries"]["one"]["state"] == (
        "left out: the time is used up"
    )
