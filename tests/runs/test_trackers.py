"""Weights & Biases logs the same numbers without a network; missing and failing trackers give clear errors."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.runs.reader import read_metrics, read_record

OFFLINE = """
import socket, sys

def refuse(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "localhost", "::1"):
        print("NETWORK", address, flush=True)
        raise OSError("no network in tests")
    return connect(self, address)

connect, socket.socket.connect = socket.socket.connect, refuse
sys.argv = ["recipe"]
import reprkit as rk
train = rk.dataset("digits").split()[0]
model = rk.build(data=train, encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))")
for step in rk.loop(model, train, steps=6, batch=32, out="run", track="wandb", log_every=2):
    step.backward(step.model(step.batch).total)
    step.update()
import wandb
print("open", wandb.run)
"""


def train(digits, out, **options):
    model = rk.build(data=digits, encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))")
    for step in rk.loop(model, digits, steps=2, batch=32, out=out, **options):
        step.backward(step.model(step.batch).total)
        step.update()


def histories(path):
    """Iterate over the logged rows in a W&B file: records in LevelDB's log format, after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = path.read_bytes(), 7, []
    while place + 7 <= len(data):
        room = 32768 - place % 32768  # of a block; a header never crosses its end
        if room < 7:
            place += room
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        parts.append(data[place + 7 : place + 7 + size])
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                yield {each.key or ".".join(each.nested_key): json.loads(each.value_json) for each in items}


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path):
    pytest.importorskip("wandb")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    environment |= {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "open None", "it is closed with the loop"
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert not (tmp_path / "wandb").exists()
    history = list(histories(written))
    lines = read_metrics(tmp_path / "run")
    assert [each["_step"] for each in history] == [line["step"] for line in lines] == [2, 4, 6]
    assert [each["loss"] for each in history] == [line["loss"] for line in lines]


def test_tracker_that_is_not_installed(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(
        TrainingError, match=r"not installed here: wandb\n  pip install wandb, or leave track= out"
    ):
        train(digits, tmp_path, track="wandb")


def test_tracker_that_cannot_start(digits, tmp_path, monkeypatch):
    def refuse(**_):
        raise RuntimeError("no API key configured")

    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(
        TrainingError, match=r"cannot be started: RuntimeError: no API key.*\n.*WANDB_MODE=offline"
    ):
        train(digits, tmp_path, track="wandb")
    assert read_record(tmp_path)["status"] == "failed"
    assert Path(tmp_path / "metrics.jsonl").read_text() == ""
