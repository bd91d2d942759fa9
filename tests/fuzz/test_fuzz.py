"""Changed folders: each call ends in success or in one sentence, within bounds.  Every case follows from its number.

The short test changes an old run, and calls what is cheap.  The long one makes a run and calls everything; a failure names its
case, and ``REPRKIT_FUZZ_CASE=1234 pytest tests/fuzz -k long`` runs that one alone.  ``REPRKIT_FUZZ_SECONDS`` is its time, 120 by
default.
"""

import os
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import folders
import isolated
import pytest

from reprkit.errors import ReprkitError

SHORT, LONG = 1.0, float(os.environ.get("REPRKIT_FUZZ_SECONDS", "120"))
FIRST_OF_LONG = 10_000
AT_MOST = 40  # cases after the time is over


def case(number, run, place, kinds):
    """Return the title and the outcome of one case."""
    rng = random.Random(number)
    kind = rng.choice(list(kinds))
    called = rng.choice(kinds[kind].calls)
    canary, home = place / "canary", place / f"case-{number}"
    home.mkdir()
    folder = folders.change(run, kind, rng, home / "run", canary)
    found = isolated.outcome(lambda: called(folder), home, forbidden=(canary, "/dev/zero", "/etc/passwd"))
    if canary.exists():
        found = ("violation", "the canary was written")
    shutil.rmtree(home)
    return f"case {number}: {called.__name__} on a changed {kind}", found


def search(first, seconds, run, place, kinds):
    """Run cases for some time, and on a busy machine until one ends in a sentence; return their number by outcome, and faults."""
    counts, faults, number = Counter(), [], first
    end = time.monotonic() + seconds
    while time.monotonic() < end or (not counts[isolated.SENTENCE] and number < first + AT_MOST):
        title, (outcome, details) = case(number, run, place, kinds)
        counts[outcome] += 1
        if outcome not in (isolated.SUCCESS, isolated.SENTENCE):
            faults.append(f"{title}: {outcome}\n{details}")
        number += 1
    return counts, faults


def test_short(tmp_path):
    counts, faults = search(0, SHORT, folders.OLD_RUN, tmp_path, folders.CHEAP)
    assert not faults, "\n\n".join(faults)
    assert counts[isolated.SENTENCE] > 0, counts


@pytest.mark.slow
@pytest.mark.timeout(LONG + 180)
def test_long(tmp_path):
    run = folders.make_run(tmp_path / "run")
    folders.warm_up(run, tmp_path / "warm")
    if "REPRKIT_FUZZ_CASE" in os.environ:
        title, found = case(int(os.environ["REPRKIT_FUZZ_CASE"]), run, tmp_path, folders.KINDS)
        pytest.fail(f"{title}: {found[0]}\n{found[1]}")
    counts, faults = search(FIRST_OF_LONG, LONG, run, tmp_path, folders.KINDS)
    print(dict(counts))
    assert not faults, f"{counts}\n" + "\n\n".join(faults[:20])
    assert counts[isolated.SENTENCE] > counts.total() / 10, counts


FAULTS = {
    "traceback": lambda canary: [].pop(),
    "exit code": lambda canary: sys.exit(3),
    "silence": lambda canary: sys.exit(1),
    "killed": lambda canary: os.abort(),
    "control characters": lambda canary: (print("error: \x1b[2J"), sys.exit(1)),
    "violation": lambda canary: canary.write_text("touched"),
    "a process": lambda canary: os.system("true"),
    "a forbidden file": lambda canary: Path("/dev/zero").read_bytes(),
    "much memory": lambda canary: bytearray(3 << 30),
}


def _refuse(text):
    raise ReprkitError(text)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_seen(fault, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    canary = tmp_path / "canary"
    kind, details = isolated.outcome(lambda: FAULTS[fault](canary), home, forbidden=("/dev/zero",))
    expected = {"a process": "violation", "a forbidden file": "violation", "much memory": "traceback"}
    assert kind == expected.get(fault, fault), details
    assert not canary.exists()


def test_right_outcomes_are_recognized(tmp_path):
    assert isolated.outcome(lambda: (tmp_path / "x").write_text("own"), tmp_path)[0] == isolated.SUCCESS
    assert isolated.outcome(lambda: _refuse("no such thing"), tmp_path) == (
        isolated.SENTENCE,
        "error: no such thing",
    )


@pytest.mark.slow
@pytest.mark.parametrize("endless", [lambda: time.sleep(100), lambda: all(True for _ in iter(int, 1))])
def test_an_endless_call_is_ended(endless, tmp_path):
    began = time.monotonic()
    assert isolated.outcome(endless, tmp_path, seconds=1)[0] == "slow"
    assert time.monotonic() - began < 60
