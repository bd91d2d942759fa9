import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import reprkit as rk
from reprkit.data import Dataset, Digits, Field, Order, Signature, loader
from reprkit.data.formats import images
from reprkit.errors import DataError
from reprkit.runs.reader import read_metrics, read_record
from reprkit.training.resume import state


@pytest.fixture
def method(request):
    """Start worker processes with this method."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


@pytest.fixture
def pictures(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(12):
        pixels = generator.integers(0, 256, (10, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    return tmp_path


class Broken(Dataset):
    """Data set whose example 5 raises."""

    signature = Signature({"x": Field(kind="vector", shape=(1,))})

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 5:
            self.fail()
        return {"x": torch.tensor([float(index)])}

    def fail(self):
        raise KeyError("a field of mine")


class Killed(Broken):
    """Data set whose example 5 kills its process."""

    def fail(self):
        os.kill(os.getpid(), signal.SIGKILL)


def train(data, workers, out):
    torch.manual_seed(0)
    model = rk.build(
        data=data, encoder="mlp(widths=(8,))", latent="gaussian(dim=2)", decoder="mlp(widths=(8,))"
    )
    for step in rk.loop(model, data, steps=7, batch=4, workers=workers, out=out, log_every=1, device="cpu"):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
    return [*model.state_dict().values(), torch.get_rng_state()], [line["loss"] for line in read_metrics(out)]


@pytest.mark.parametrize("kind", ["digits", "pictures", "cached pictures", "pictures decoded again"])
def test_run_with_workers_is_bitwise_identical(kind, pictures, tmp_path, monkeypatch):
    if kind == "digits":
        data = Digits()
    else:
        monkeypatch.setattr(images, "MEMORY", 0 if "again" in kind else 1 << 30)
        data = images.Images(pictures, 8, cache=tmp_path / "cache" if "cached" in kind else None)
    (one, losses), (other, others) = (train(data, n, tmp_path / f"out{n}") for n in (0, 2))
    assert len(losses) == 7
    assert losses == others
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("method", ["fork", "spawn"], indirect=True)
def test_fork_and_spawn_give_the_same_batches(method, pictures):
    data = images.Images(pictures, 8)
    order = Order(len(data), 4, seed=1)
    batches = list(loader(data, order, 1, 1, stop=5))
    assert len(batches) == 4
    for step, batch in enumerate(batches, 1):
        assert torch.equal(batch["x"], data.batch(order.at(step))["x"])


@pytest.mark.parametrize("workers", [0, 2])
def test_failing_example_is_named(workers):
    order = Order(8, 4, seed=0)
    step = next(step for step in range(2) if 5 in order.at(step))
    with pytest.raises(DataError) as caught:
        list(loader(Broken(), order, 0, workers, stop=2))
    said = str(caught.value)
    assert said.startswith(
        f"example 5 (in the batch of step {step}) of broken cannot be loaded: KeyError: 'a field of mine'"
    )
    assert "in fail, " in said
    assert "test_workers.py, line" in said
    assert "Caught" not in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_deleted_file_is_named_and_recorded(workers, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MEMORY", 0)
    data = images.Images(pictures, 8)
    (pictures / "07.png").unlink()
    with pytest.raises(
        DataError, match=r"^example 7 .*07\.png' was readable when the data set was constructed, and"
    ):
        train(data, workers, tmp_path / "out")
    record = read_record(tmp_path / "out")
    assert record["status"] == "failed"
    assert "07.png" in record["error"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn"], indirect=True)
def test_unpicklable_data_set_raises(method):
    class Local(Broken):
        pass

    with pytest.raises(
        DataError, match=r"local cannot be sent to a worker process(.|\n)*at the top of a module"
    ):
        next(loader(Local(), Order(8, 4), 0, 1))


def test_killed_worker_raises():
    with pytest.raises(
        DataError,
        match="a worker process that prepares batches of killed ended: process .* was killed by SIGKILL",
    ):
        list(loader(Killed(), Order(8, 4), 0, 1, stop=2))


@pytest.mark.slow
def test_killed_worker_raises_in_the_next_request_and_nowhere_else():
    """torch's handler of SIGCHLD would raise a RuntimeError in whatever line runs when the worker dies."""
    before = set(multiprocessing.active_children())
    batches = loader(Digits(), Order(1797, 64), 0, 1)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGKILL)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        sum(range(1000))  # Python code in which a handler would run
    with pytest.raises(DataError, match=f"process {worker.pid} was killed by SIGKILL"):
        list(batches)


@pytest.mark.slow
def test_run_whose_worker_is_killed_in_the_body_has_a_reason_and_a_state(tmp_path):
    data = Digits()
    model = rk.build(
        data=data, encoder="mlp(widths=(8,))", latent="gaussian(dim=2)", decoder="mlp(widths=(8,))"
    )
    before = set(multiprocessing.active_children())

    def train():
        for step in rk.loop(model, data, steps=100, batch=32, workers=1, out=tmp_path, device="cpu"):
            step.backward(step.model(step.batch).total)
            step.update()
            if step.index == 3:
                (worker,) = set(multiprocessing.active_children()) - before
                os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(DataError, match="was killed by SIGKILL") as raised:
        train()
    record = read_record(tmp_path)
    assert record["status"] == "failed"
    assert "was killed by SIGKILL" in record["error"]
    (saved,) = state.list_saved(tmp_path / "state")
    done = int(saved.name.removeprefix("step-"))
    assert done >= 4
    assert raised.value.__notes__ == [
        f"  the state of step {done} is saved: resume=True continues from there"
    ]


class Panicking(Broken):
    """Data set whose example 5 raises what a panic of a native extension is: no Exception."""

    error: type[BaseException] = type("PanicException", (BaseException,), {})

    def fail(self):
        raise self.error("rust")


@pytest.mark.parametrize("workers", [0, 1])
def test_base_exception_of_a_data_set_names_its_example(workers):
    with pytest.raises(
        DataError,
        match=r"^example 5 \(in the batch of step \d\) of panicking cannot be loaded: PanicException: rust",
    ):
        list(loader(Panicking(), Order(8, 4), 0, workers, stop=2))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_data_set_that_exits_in_a_worker_is_an_error(error):
    data = Panicking()
    data.error = error
    with pytest.raises(
        DataError, match=f"the batch of step . of panicking cannot be loaded: {error.__name__}: rust"
    ):
        list(loader(data, Order(8, 4), 0, 1, stop=2))
    with pytest.raises(error):  # in this process it may be the user's
        list(loader(data, Order(8, 4), 0, 0, stop=2))


def test_workers_end_with_the_iteration():
    before = set(multiprocessing.active_children())  # those that wait for tests on several ranks
    batches = loader(Digits(), Order(1797, 64), 0, 2)
    next(batches)
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.close()
    del batches
    assert not set(multiprocessing.active_children()) - before


RECIPE = """
import sys, reprkit as rk
data = rk.dataset("digits")
model = rk.build(data=data, encoder="mlp(widths=(8,))", latent="gaussian(dim=2)", decoder="mlp(widths=(8,))")
for step in rk.loop(model, data, steps=10**6, batch=32, workers=2, out=sys.argv[1], device="cpu", progress=False):
    losses = step.model(step.batch)
    step.backward(losses.total)
    step.update()
    if step.index == 20:
        print("going", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_signal_to_all_processes_still_saves(number, code, tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-c", RECIPE, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert run.stdout.readline() == "going\n"
        os.killpg(run.pid, number)
        _, said = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == code, said
    assert read_record(tmp_path)["status"] == "stopped"
    about, _ = state.load_newest(tmp_path / "state")
    assert about["step"] > 20
