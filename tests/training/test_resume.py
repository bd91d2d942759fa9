"""A run that is stopped in any way and resumed equals an uninterrupted one, bit by bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reprkit.runs.reader import read_record
from reprkit.runs.run import Run
from reprkit.training.resume import state

RECIPE = Path(__file__).with_name("recipe.py")


def start(out, *flags, **environment):
    given = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, str(RECIPE), str(out), *flags],
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    printed, complaints = process.communicate(timeout=240)
    assert process.returncode == 0, complaints
    return printed


def outcome(out):
    """All that must be equal, bit by bit; the times left out."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["data_wait"]
    weights = load_file(out / "model" / "model.safetensors")
    return lines, {**weights, **{f"teacher.{k}": v for k, v in torch.load(out / "teacher.pt").items()}}


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name in one[1]:
        assert torch.equal(one[1][name], other[1][name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody stopped, without any save in between."""
    out = tmp_path_factory.mktemp("whole")
    finish(start(out, SAVE_EVERY="1000"))
    return outcome(out)


def kill_at(out, moment, *flags, **environment):
    """Start, wait until it has printed so many steps and a little more, kill it with no warning."""
    process = start(out, *flags, **environment)
    for _ in range(moment):
        if not process.stdout.readline():
            break
    time.sleep(random.random() * 0.05)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_killed_run_resumes_exactly(whole, tmp_path):
    kill_at(tmp_path, 25, PAUSE="0.01")
    run = Run(tmp_path)
    assert run.status == "killed"
    (newest, *_) = state.list_saved(tmp_path / "state")
    assert json.loads((newest / "state.json").read_text())["step"] > 1
    assert not (tmp_path / "model").exists()
    finish(start(tmp_path, "--resume"))
    assert_same(outcome(tmp_path), whole)
    assert run.status == "finished"
    assert run.record["resumed"][0]["step"] > 1


@pytest.mark.slow
@pytest.mark.parametrize("latent", ["gaussian(dim=4)", "vq(codes=16, dim=2, codebooks=2)"])
def test_runs_killed_during_saves_resume_exactly(tmp_path, latent):
    """Every save takes place here, so that many of the kills hit one."""
    finish(start(tmp_path / "whole", SAVE_EVERY="1000", LATENT=latent))
    out, generator = tmp_path / "out", random.Random(0)
    for turn in range(6):
        kill_at(
            out, generator.randrange(1, 12), *(["--resume"] if turn else []), SAVE_EVERY="1e-6", LATENT=latent
        )
        if (out / "state").exists():
            state.load_newest(out / "state")
    finish(start(out, "--resume", LATENT=latent))
    assert_same(outcome(out), outcome(tmp_path / "whole"))


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_143(whole, tmp_path):
    process = start(tmp_path, PAUSE="0.01", SAVE_EVERY="1000")
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    rest, complaints = process.communicate(timeout=60)
    assert process.returncode == 143, complaints
    record = read_record(tmp_path)
    assert record["status"] == "stopped"
    printed = [int(line) for line in rest.splitlines()]
    step = record["stages"]["main"]["saved"]
    assert step >= 20
    assert not printed or printed[-1] == step - 1, "it saved what it had done, and did no more"
    finish(start(tmp_path, "--resume"))
    assert_same(outcome(tmp_path), whole)


@pytest.mark.slow
def test_ctrl_c_saves_and_interrupts(tmp_path):
    process = start(tmp_path, PAUSE="0.01", SAVE_EVERY="1000")
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt: stopped after step" in complaints
    assert state.list_saved(tmp_path / "state")
    assert read_record(tmp_path)["status"] == "stopped"


@pytest.mark.slow
def test_a_body_that_raises_is_a_failed_run(tmp_path):
    code = f"""
import reprkit as rk
train, _ = rk.dataset("digits").split()
model = rk.build(data=train, encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))")
for step in rk.loop(model, train, steps=9, out={str(tmp_path)!r}):
    step.update()
    if step.index == 3:
        raise ValueError("my own mistake")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.rstrip().endswith("ValueError: my own mistake")
    assert "Exception ignored" not in done.stderr
    record = read_record(tmp_path)
    assert record["status"] == "failed"
    assert record["error"] == "ValueError: my own mistake"
    assert record["stages"]["main"]["step"] == 3
