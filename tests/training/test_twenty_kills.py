"""A recipe killed at twenty random moments, and resumed each time, ends like an uninterrupted one."""

import json
import multiprocessing
import os
import random
import re
import runpy
import sys
import time
from pathlib import Path

import pytest
from loop_helpers import assert_same
from safetensors.torch import load_file

from reprkit.runs.run import Run
from reprkit.training.resume import state

RECIPE = Path(__file__).with_name("recipe_whole.py")
STEPS, IN_TRAINING, AFTERWARDS = 120, 16, 4


def in_a_process(home, pause):
    """The recipe in this fresh process, its words written to HOME/said."""
    os.chdir(home)
    sys.stdout = open("said", "w", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
    sys.stderr = open("complained", "a", encoding="utf-8")  # noqa: SIM115
    sys.argv = [str(RECIPE), str(pause)]
    runpy.run_path(str(RECIPE), run_name="__main__")


@pytest.fixture(scope="module")
def start():
    """Starts processes that have imported the large packages already, which saves most of the time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "sklearn.neighbors", "sklearn.datasets", "accelerate", "matplotlib.figure"]
    )

    def started(home, pause):
        home.mkdir(exist_ok=True)
        (home / "said").unlink(missing_ok=True)
        process = context.Process(target=in_a_process, args=(home, pause))
        process.start()
        return process

    return started


def finish(process, home):
    process.join(120)
    assert process.exitcode == 0, (home / "complained").read_text()


def killed(process, home, reached, moment):
    """Wait until the recipe says that it has got there, and a little more, then kill it."""
    patience = time.monotonic() + 60
    while time.monotonic() < patience and process.is_alive():
        said = (home / "said").read_text().split() if (home / "said").exists() else []
        if any(reached(word) for word in said):
            break
        time.sleep(0.001)
    time.sleep(moment)
    process.kill()
    process.join()
    assert process.exitcode == -9, (home / "complained").read_text()


def page(home):
    """The page without what tells the time."""
    text = (home / "run" / "report.html").read_text()
    text = re.sub(r"<dt>(time|waiting|started)</dt><dd>.*?</dd>", "", text)
    return re.sub(r"Made by reprkit, .*", "", text)


def lines(home):
    found = [json.loads(line) for line in (home / "run" / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "data_wait")} for line in found
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_twenty_times_equals_an_uninterrupted_one(start, tmp_path):
    whole, home, generator = tmp_path / "whole", tmp_path / "killed", random.Random(20)
    finish(start(whole, 0.0), whole)
    positions = []
    for target in sorted(generator.choices(range(STEPS), k=IN_TRAINING)):
        killed(
            start(home, 0.002),
            home,
            lambda word, t=target: word.isdigit() and int(word) >= t,
            generator.random() * 0.03,
        )
        found = state.load_newest(home / "run" / "state") if (home / "run" / "state").exists() else None
        positions.append(0 if found is None else found[0]["step"])
        assert Run(home / "run").status == "killed" or positions[-1] == STEPS  # by then it was evaluating
    assert positions == sorted(positions), "no saved state was lost"
    assert len(set(positions)) > IN_TRAINING // 2
    for _ in range(AFTERWARDS):
        killed(start(home, 0.1), home, lambda word: word == "trained", generator.random() * 0.3)
    finish(start(home, 0.0), home)

    assert Run(home / "run").status == Run(whole / "run").status == "finished"
    for name in ("model", "best"):
        assert_same(*(load_file(each / "run" / name / "model.safetensors") for each in (whole, home)))
    (about, saved), (also, resumed) = (state.load_newest(each / "run" / "state") for each in (whole, home))
    assert about["step"] == also["step"] == STEPS
    assert_same(saved, resumed)  # weights, optimizer, average, random states
    assert lines(home) == lines(whole)
    assert (home / "run" / "results.json").read_text() == (whole / "run" / "results.json").read_text()
    assert Run(home / "run").best == Run(whole / "run").best
    assert page(home) == page(whole)
    assert "<svg" in page(home)
