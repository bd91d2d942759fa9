"""metrics.jsonl contains only complete lines, even on a full disk."""

import os
import resource
import signal
import subprocess
import sys

import pytest

import reprkit as rk
from reprkit.errors import CheckpointError, TrainingError
from reprkit.runs.json_lines import JsonLinesFile
from reprkit.runs.reader import read_metrics, read_record


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits").split()


def make(digits):
    return rk.build(
        data=digits[0], encoder="mlp(widths=(8,))", latent="continuous(dim=3)", decoder="mlp(widths=(8,))"
    )


@pytest.fixture
def limit_file_size():
    """Return a function that limits the size of files in bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_unwritten_line_is_written_with_the_next(tmp_path, limit_file_size):
    lines = JsonLinesFile(tmp_path / "metrics.jsonl")
    lines.begin(None)
    lines.append({"step": 1})
    size = lines.size()
    limit_file_size(size + 5)
    with pytest.raises(OSError, match="File too large"):
        lines.append({"step": 2, "loss": 3.0})
    assert (tmp_path / "metrics.jsonl").stat().st_size == size, "the partial line is truncated"
    with pytest.raises(OSError, match="File too large"):
        lines.size()
    limit_file_size(resource.RLIM_INFINITY)
    lines.append({"step": 3})
    assert [each["step"] for each in read_metrics(tmp_path)] == [1, 2, 3]
    again = JsonLinesFile(tmp_path / "metrics.jsonl")
    again.begin(size)
    assert [each["step"] for each in read_metrics(tmp_path)] == [1]
    with pytest.raises(TrainingError, match="is shorter than when the state was saved"):
        again.begin(size + 1)


def test_training_continues_on_a_full_disk(digits, tmp_path, limit_file_size):
    """While nothing can be written the run continues, and its lines are written later."""
    model = make(digits)

    def run():
        for step in rk.loop(model, digits[0], steps=12, batch=32, out=tmp_path, log_every=1, save_every=1e-9):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            if step.index == 4:
                limit_file_size(100)
            if step.index == 7:
                limit_file_size(resource.RLIM_INFINITY)

    with pytest.warns(UserWarning, match="training goes on") as caught:
        run()
    messages = [str(each.message) for each in caught]
    assert any("metrics.jsonl" in each or "run.json" in each for each in messages)
    assert any("cannot save the state at step 5" in each or "cannot write" in each for each in messages)
    assert [each["step"] for each in read_metrics(tmp_path)] == list(range(1, 13))
    assert read_record(tmp_path)["status"] == "finished"


def test_full_disk_keeps_the_older_model_and_page(digits, tmp_path, limit_file_size):
    model = make(digits)
    run = rk.fit(model, digits[0], steps=4, batch=32, valid=digits[1], out=tmp_path)
    files = [
        tmp_path / name for name in ("report.html", "results.json", "figures.npz", "model/model.safetensors")
    ]
    before = [each.read_bytes() for each in files]
    limit_file_size(1000)
    with pytest.raises(CheckpointError, match=r"cannot write .*\n  an older checkpoint there is untouched"):
        model.save(tmp_path / "model")
    with pytest.raises(TrainingError, match=r"cannot write .*report.html: .*; an older page is unchanged"):
        rk.report(tmp_path, run.results)
    limit_file_size(resource.RLIM_INFINITY)
    assert [each.read_bytes() for each in files] == before
    assert not list(tmp_path.glob(".*.new"))


@pytest.mark.slow
def test_time_waiting_for_data_and_saves_is_measured(digits, tmp_path):
    code = f"""
import time
import reprkit as rk
train, _ = rk.dataset("digits").split()
batch = type(train).batch
type(train).batch = lambda self, indices: (time.sleep(0.02), batch(self, indices))[1]
model = rk.build(data=train, encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))")
for step in rk.loop(model, train, steps=20, batch=32, out={str(tmp_path)!r}, log_every=10):
    step.backward(step.model(step.batch).total)
    step.update()
    time.sleep(0.01)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    stage = read_record(tmp_path)["stages"]["main"]
    waited = stage["waiting"]["data"] * stage["seconds"]
    assert 0.4 <= waited <= stage["seconds"] - 0.2
    assert 0 < stage["waiting"]["saves"] < 1
    assert 0.2 < read_metrics(tmp_path)[-1]["data_wait"] < 0.9
    assert "% of the time for data" in rk.report(tmp_path).read_text()
