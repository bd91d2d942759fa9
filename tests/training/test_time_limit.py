"""Time limits: durations as text, and a loop that saves and stops before its limit."""

import os
import signal
import time

import pytest
from loop_helpers import equal, make, weights

import reprkit as rk
from reprkit.errors import PartArgumentError, TrainingError
from reprkit.runs.reader import read_record
from reprkit.training import time_limit
from reprkit.training.time_limit import TimeLimit, format_clock, parse_duration, process_age


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1.5h", 5400), ("2d", 172800), ("12:00:30", 43230), ("1-02:03:04", 93784), (7, 7)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds
    assert parse_duration(format_clock(seconds)) == seconds


@pytest.mark.parametrize("text", ["12", "12:30", "0s", "-5m", "1:60:00", "h", "1e9d", "", "5 m"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(PartArgumentError, match="must be a duration above 0, such as 90s, 30m"):
        parse_duration(text)


def test_the_age_of_a_process():
    assert 0 < process_age() < 10**6
    before = process_age()
    time.sleep(0.02)
    assert process_age() > before


def test_the_reserve_is_twice_the_longest_step_and_save(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time_limit.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time_limit, "process_age", lambda: 30.0)
    limit = TimeLimit(1000.0)  # of which 30 s are over: it ends at 1070

    def after(seconds):
        now[0] += seconds
        return limit.is_due()

    assert not after(20)
    assert not any(after(10) for _ in range(84))  # 960
    assert after(60)  # 1020: the least reserve is 50 s
    now[0] = 900.0
    limit = TimeLimit(1000.0)
    now[0] = 1000.0
    limit.is_due()  # a step of 100 s
    limit.note_save(50.0)
    now[0] = 1569.0
    limit._last = 1559.0
    assert not limit.is_due()
    now[0] = 1570.0
    assert limit.is_due()


def test_a_time_limit_needs_a_folder_and_a_duration(digits):
    with pytest.raises(TrainingError, match="time_limit='1h' needs out="):
        rk.loop(make(digits), digits, steps=1, time_limit="1h")
    with pytest.raises(PartArgumentError, match="time_limit=0"):
        rk.loop(make(digits), digits, steps=1, time_limit=0, out="x")


def train_with_a_signal(digits, out):
    """Train for four steps, with SIGUSR1 in the second; returns the steps that were begun."""
    begun = []
    for step in rk.loop(make(digits), digits, steps=4, batch=32, out=out, device="cpu"):
        begun.append(step.index)
        step.backward(step.model(step.batch).total)
        step.update()
        if step.index == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
    return begun


def test_sigusr1_saves_and_ends_with_75(digits, tmp_path):
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(SystemExit) as stopped:
        train_with_a_signal(digits, tmp_path)
    assert stopped.value.code == 75
    assert signal.getsignal(signal.SIGUSR1) == before
    assert read_record(tmp_path)["stages"]["main"]["saved"] == 2


def test_the_program_s_own_handler_of_sigusr1_stays(digits, tmp_path):
    got = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    try:
        assert train_with_a_signal(digits, tmp_path) == [0, 1, 2, 3]
        assert got == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.slow
def test_a_loop_stops_before_its_limit_and_resumes(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(time_limit, "process_age", lambda: 0.0)

    def train(out, pause, **options):
        model = make(digits, encoder="mlp(widths=(16,), dropout=0.2)")
        for step in rk.loop(model, digits, steps=100, batch=32, lr=1e-2, out=out, device="cpu", **options):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            time.sleep(pause)
        return weights(model)

    began = time.monotonic()
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "cut", 0.1, time_limit=4.0)
    assert stopped.value.code == 75
    assert time.monotonic() - began < 4.0 + 2.0  # setting up is not part of it here
    record = read_record(tmp_path / "cut")
    saved = record["stages"]["main"]["saved"]
    assert record["status"] == "stopped"
    assert 3 < saved < 40
    assert f"the time limit is near: stopped after step {saved} of 100" in capsys.readouterr().err
    resumed = train(tmp_path / "cut", 0.0, resume=True, time_limit="1h")
    assert equal(resumed, train(tmp_path / "whole", 0.0))
