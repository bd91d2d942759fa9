"""A run belongs to the process that holds its lock, whatever ``run.json`` says."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.runs import lock
from reprkit.runs.lock import RunLock, is_locked
from reprkit.runs.reader import read_record, status_of
from reprkit.runs.run import Run
from reprkit.runs.writer import RunWriter


def make(digits):
    return rk.build(
        data=digits, encoder="mlp(widths=(8,))", latent="continuous(dim=2)", decoder="mlp(widths=(8,))"
    )


def loop(digits, out, **options):
    return rk.loop(make(digits), digits, **{"steps": 2, "batch": 8, "log_every": 1, "out": out, **options})


def train(digits, out, **options):
    for step in loop(digits, out, **options):
        step.backward(step.model(step.batch).total)
        step.update()


HOLD = """
import sys
from pathlib import Path
from reprkit.runs.lock import RunLock
held = RunLock(Path(sys.argv[1]))
held.acquire()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_process(tmp_path):
    """Another process that holds the lock of the folder, until it is killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(rk.__file__).parents[1])},
    )
    assert holder.stdout.readline() == "locked\n"
    yield holder
    holder.kill()
    holder.communicate()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_nothing_of_the_owner_is_touched_and_its_death_releases_the_run(digits, tmp_path, other_process):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    (tmp_path / "run.json").write_text(json.dumps({"status": "running", "session": "its own"}))
    before = contents(tmp_path)
    for resume in (False, True):
        with pytest.raises(
            TrainingError, match=rf"process {other_process.pid} on .* is training into .* right now: choose"
        ):
            next(iter(loop(digits, tmp_path, resume=resume)))
    assert contents(tmp_path) == before
    assert is_locked(tmp_path) is True
    other_process.kill()
    other_process.wait()
    assert is_locked(tmp_path) is False
    train(digits, tmp_path, overwrite=True)
    assert read_record(tmp_path)["status"] == "finished"


def test_run_of_a_killed_container_resumes(digits, tmp_path):
    """The new container has the host name and the process id of the one that was killed."""
    train(digits, tmp_path)
    record = read_record(tmp_path)
    stages = {"main": {**record["stages"]["main"], "status": "running"}}
    left = {**record, "status": "running", "session": "before", "pid": os.getpid(), "stages": stages}
    (tmp_path / "run.json").write_text(json.dumps(left))
    assert Run(tmp_path).status == "killed"
    train(digits, tmp_path, resume=True, steps=4)
    assert read_record(tmp_path)["status"] == "finished"
    assert read_record(tmp_path)["stages"]["main"]["step"] == 4


def test_lock_is_held_while_the_loop_runs_and_not_after(digits, tmp_path):
    steps = iter(loop(digits, tmp_path))
    next(steps)
    assert is_locked(tmp_path) is True
    assert Run(tmp_path).status == "running"
    steps.close()
    assert is_locked(tmp_path) is False
    assert Run(tmp_path).status == "stopped"


def test_fit_owns_its_run_until_the_report_is_written(digits, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("reprkit.reporting.report", lambda folder, _: seen.append(is_locked(folder)))
    rk.fit(make(digits), digits, steps=1, batch=8, out=tmp_path)
    assert (seen, is_locked(tmp_path)) == ([True], False)


def test_stopped_run_that_another_process_took_over_is_not_written_at_exit(tmp_path, monkeypatch):
    writer = RunWriter(tmp_path)
    writer.lock()
    writer.begin(steps=3, facts={})
    writer.close(1, "stopped")
    taken = {**read_record(tmp_path), "session": "another"}
    (tmp_path / "run.json").write_text(json.dumps(taken))
    monkeypatch.setattr(sys, "last_exc", ValueError("late"), raising=False)
    writer._at_exit()
    assert read_record(tmp_path) == taken


def test_forked_process_does_not_hold_the_lock(tmp_path):
    """A worker that loads data lives for seconds after its parent was killed."""
    held = RunLock(tmp_path)
    held.acquire()
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        assert is_locked(tmp_path) is True
        held.release()
        end = time.monotonic() + 20  # the child closes its copy once it runs
        while is_locked(tmp_path) and time.monotonic() < end:
            time.sleep(0.01)
        assert is_locked(tmp_path) is False
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_writers_of_one_process_share_the_lock(tmp_path):
    first, second = RunLock(tmp_path), RunLock(tmp_path / ".." / tmp_path.name)
    first.acquire()
    second.acquire()
    first.release()
    assert is_locked(tmp_path) is True
    second.release()
    assert is_locked(tmp_path) is False


def test_file_system_without_locks_raises_one_warning(tmp_path, monkeypatch, recwarn):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    for _ in range(2):
        RunLock(tmp_path).acquire()
    (warning,) = recwarn
    assert "cannot be locked (Operation not supported): if another process trains into it" in str(
        warning.message
    )
    assert is_locked(tmp_path) is None


def test_link_or_pipe_in_place_of_the_lock_is_refused(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").symlink_to(victim)
    with pytest.raises(TrainingError, match=r"cannot write .*\.lock"):
        RunLock(run).acquire()
    assert victim.read_text() == "mine"
    (run / ".lock").unlink()
    os.mkfifo(run / ".lock")
    with pytest.raises(TrainingError, match="it is not a plain file"):
        RunLock(run).acquire()
    assert is_locked(run) is not True


def test_status_without_a_lock_file_goes_by_the_process(tmp_path):
    record = {"status": "running", "host": os.uname().nodename, "pid": os.getpid()}
    assert status_of(record, tmp_path) == "running"
    assert status_of({**record, "pid": 2**22 + 1}, tmp_path) == "killed"


START = """
import sys
import torch
import reprkit as rk
torch.set_num_threads(1)
data = rk.dataset("digits").split()[0]
model = rk.build(data=data, encoder="mlp(widths=(8,))", latent="continuous(dim=2)", decoder="mlp(widths=(8,))")
print("ready", flush=True)
sys.stdin.readline()
for step in rk.loop(model, data, steps=20, batch=8, out=sys.argv[1], progress=False, log_every=20):
    if step.index == 0:
        print("training", flush=True)
        sys.stdin.readline()
    step.backward(step.model(step.batch).total)
    step.update()
"""


@pytest.mark.slow
def test_of_fresh_starts_at_once_exactly_one_trains(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(rk.__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen([sys.executable, "-c", START, str(tmp_path / "run")], env=environment, **pipes)
        for _ in range(3)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.stdout.readline() for process in started]  # the one that trains waits; the others end
    assert sorted(said) == ["", "", "training\n"]
    ended = [(process.communicate("on\n", timeout=120)[1], process.returncode) for process in started]
    assert [code for _, code in ended] == [0 if line else 1 for line in said]
    assert all("is training into" in text for text, code in ended if code)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "run" / ".replaced").exists()
