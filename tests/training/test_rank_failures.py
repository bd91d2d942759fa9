"""When one of two ranks fails, the other ends with its message, and the run's record holds the cause."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch.distributed as dist

import reprkit as rk
from reprkit.errors import DataError, TrainingError
from reprkit.runs.reader import read_record
from reprkit.testing.processes import free_port
from reprkit.training import rank_failures
from reprkit.training.rank_failures import RankFailures

BROKEN = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711")


@pytest.fixture
def pair(monkeypatch):
    """The side channel of two ranks, in one process, and what each recorded."""
    monkeypatch.setattr(rank_failures, "POLL", 0.01)
    monkeypatch.setattr(rank_failures, "TIMEOUT", 0.5)
    store, recorded = dist.HashStore(), ([], [])
    both = [RankFailures(rank, 2, recorded[rank].append, store) for rank in (0, 1)]
    yield both, recorded
    for each in both:
        each.close()


def test_broken_connection_is_explained_by_the_first_failure(pair):
    (first, second), (recorded, own) = pair
    started = time.monotonic()
    second.publish(DataError("example 5 is broken"))
    assert time.monotonic() - started < 0.4, "it waits only until the other has read it"
    explained = first.explain(BROKEN)
    assert isinstance(explained, TrainingError)
    assert str(explained) == "process 1 failed first: DataError: example 5 is broken"
    assert recorded == [str(explained)]
    assert second.explain(KeyError("its own")) is None
    assert own == []


def test_cause_that_comes_after_the_broken_connection_is_waited_for(pair):
    (first, second), _ = pair
    threading.Timer(0.1, second.publish, [ValueError("late")]).start()
    assert str(first.explain(BROKEN)) == "process 1 failed first: ValueError: late"


def test_first_failure_counts(pair):
    (first, second), _ = pair
    first.publish(ValueError("one"))
    second.publish(ValueError("two"))
    assert str(second.explain(BROKEN)) == "process 0 failed first: ValueError: one"
    assert "another process ended without a message" in str(first.explain(BROKEN))


def test_own_errors_are_raised_unchanged(pair):
    (first, second), _ = pair
    assert first.explain(ValueError("shapes do not fit")) is None
    second.publish(ValueError("x"))
    assert first.explain(DataError("mine")) is None


def test_left_loop_and_killed_process_are_named(pair):
    (first, second), _ = pair
    text = str(first.explain(BROKEN))
    assert text.startswith("another process ended without a message; it may have been killed ([gloo/")
    second.leave(7)
    assert str(first.explain(BROKEN)) == (
        "process 1 failed first: it left the loop at step 7, by a break or an error"
    )


def test_error_of_a_call_in_the_body_is_the_reason_for_leaving(pair):
    (first, second), _ = pair
    second.note(KeyError("forgotten"))
    second.note(None)
    second.note(KeyError("mask"))
    second.leave(7)
    assert str(first.explain(BROKEN)) == "process 1 failed first: KeyError: 'mask'"


def test_body_that_ends_after_another_rank_has_failed_records_its_message(pair):
    """As by a broken connection in an evaluation, which no call of the loop sees."""
    (first, second), (recorded, _) = pair
    second.publish(ValueError("x"))
    first.leave(7)
    assert recorded == ["process 1 failed first: ValueError: x"]


def test_one_process_has_no_side_channel():
    alone = RankFailures(0, 1, pytest.fail)
    alone.publish(ValueError("x"))
    alone.leave(3)
    assert alone.explain(BROKEN) is None


SCRIPT = """
import sys, time
import torch
import reprkit as rk
from reprkit.data.base import Dataset
from reprkit.training import rank_failures

torch.set_num_threads(1)
rank_failures.GRACE = 3.0
rank, fault, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]


class Bad(Dataset):
    def __init__(self, inner):
        self.inner, self.signature = inner, inner.signature

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[index]

    def batch(self, indices):
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen == 5:
            raise OSError("disk of rank 1 is gone")
        return self.inner.batch(indices)


data = rk.dataset("digits").split()[0]
if fault == "data" and rank == 1:
    data = Bad(data)
model = rk.build(data=data, encoder="mlp(widths=(8,))", latent="continuous(dim=2)", decoder="mlp(widths=(8,))")
for step in rk.loop(model, data, steps=10**6, batch=32, out=out, device="cpu", progress=False, log_every=1):
    if step.index == 5 and rank == 1:
        if fault == "body":
            raise ValueError("mistake of rank 1")
        if fault == "stays":  # its error is published, and its process lives on
            step._train_state.failures.publish(ValueError("mistake of rank 1"))
            time.sleep(600)
    losses = step.model(step.batch)
    step.backward(losses.total)
    step.update()
"""


@pytest.mark.slow
@pytest.mark.ranks
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("data", "process 1 failed first: DataError: "),
        ("body", "process 1 failed first: "),
        ("stays", "process 1 failed first: "),
    ],
)
def test_other_rank_ends_with_the_message_of_the_first(fault, cause, tmp_path):
    port = str(free_port())
    processes = []
    for rank in range(2):
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(rk.__file__).parents[1]),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "CUDA_VISIBLE_DEVICES": "",
        }
        command = [sys.executable, "-c", SCRIPT, str(rank), fault, str(tmp_path / "run")]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        order = (0, 1) if fault == "stays" else (1, 0)
        said = {order[0]: processes[order[0]].communicate(timeout=150)[1]}
        if fault == "stays":
            processes[1].kill()
        ended = time.monotonic()
        said[order[1]] = processes[order[1]].communicate(timeout=60)[1]
        assert time.monotonic() - ended < 60
    finally:
        for process in processes:
            process.kill()
    first = said[0]
    assert processes[0].returncode == 1, said
    own = "disk of rank 1 is gone" if fault == "data" else "ValueError: mistake of rank 1"
    assert own in said[1] or fault == "stays"
    record = read_record(tmp_path / "run")
    assert record["status"] == "failed"
    assert record["error"].startswith(cause), (record["error"], first)
    assert own in record["error"]
    assert own in first
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["step"] == 1
