"""Stop a run in any way, resume it, and it equals one that was never stopped, bit by bit."""

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

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.training import state
from reprkit.training.run import Run, read_record

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


def test_a_killed_run_goes_on_as_if_nothing_had_happened(whole, tmp_path):
    kill_at(tmp_path, 25, PAUSE="0.01")
    run = Run(tmp_path)
    assert run.status == "killed"
    (newest, *_) = state.saved(tmp_path / "state")
    assert json.loads((newest / "state.json").read_text())["step"] > 1
    assert not (tmp_path / "model").exists()
    finish(start(tmp_path, "--resume"))
    assert_same(outcome(tmp_path), whole)
    assert run.status == "finished"
    assert run.record["resumed"][0]["step"] > 1


@pytest.mark.slow
@pytest.mark.parametrize("latent", ["gaussian(dim=4)", "vq(codes=16, dim=2, codebooks=2)"])
def test_killed_at_many_moments_in_saves_too(tmp_path, latent):
    """Every save takes place here, so that many of the kills hit one."""
    finish(start(tmp_path / "whole", SAVE_EVERY="1000", LATENT=latent))
    out, generator = tmp_path / "out", random.Random(0)
    for turn in range(6):
        kill_at(
            out, generator.randrange(1, 12), *(["--resume"] if turn else []), SAVE_EVERY="1e-6", LATENT=latent
        )
        if (out / "state").exists():
            state.newest(out / "state")
    finish(start(out, "--resume", LATENT=latent))
    assert_same(outcome(out), outcome(tmp_path / "whole"))


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


def test_ctrl_c_saves_and_interrupts(tmp_path):
    process = start(tmp_path, PAUSE="0.01", SAVE_EVERY="1000")
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt: stopped after step" in complaints
    assert state.saved(tmp_path / "state")
    assert read_record(tmp_path)["status"] == "stopped"


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


# ------------------------------------------------------------------ in one process


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits").split()[0]


def make(digits, latent="gaussian(dim=3)"):
    return rk.build(data=digits, encoder="mlp(widths=(16,))", latent=latent, decoder="mlp(widths=(16,))")


def train(model, digits, out, *, until=None, **options):
    losses = []
    for step in rk.loop(model, digits, **{"steps": 10, "batch": 32, "lr": 1e-2, "out": out, **options}):
        found = step.model(step.batch)
        step.backward(found.total)
        step.update()
        losses.append(float(found.total.detach()))
        if until is not None and step.index + 1 == until:
            os.kill(os.getpid(), signal.SIGTERM)
    return losses


def stopped(model, digits, out, until, **options):
    with pytest.raises(SystemExit) as left:
        train(model, digits, out, until=until, **options)
    assert left.value.code == 143


def test_resume_on_a_missing_run_starts_it_and_on_a_finished_one_returns(digits, tmp_path):
    one, other = make(digits), make(digits)
    assert len(train(one, digits, tmp_path, resume=True)) == 10
    before = read_record(tmp_path)
    assert train(other, digits, tmp_path, resume=True) == []
    assert read_record(tmp_path) == before
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert not other.training
    assert len(train(other, digits, tmp_path, resume=True, steps=14)) == 4, "and may be prolonged"
    assert [line["step"] for line in Run(tmp_path, other).metrics] == [10, 14]


def test_what_the_parts_count_comes_back(digits, tmp_path):
    """Usage windows, counters kept as plain attributes, generators that a part owns."""

    def counting():
        model = make(digits)
        latent = model.latent()
        latent.calls, latent.own = 0, torch.Generator().manual_seed(1)
        latent.register_forward_pre_hook(lambda module, _: setattr(module, "calls", module.calls + 1))
        latent.register_forward_pre_hook(
            lambda module, _: torch.rand(1, generator=module.own).sum().isnan() or None
        )
        return model

    whole, half, rest = counting(), counting(), counting()
    train(whole, digits, tmp_path / "whole")
    stopped(half, digits, tmp_path / "half", 6)
    train(rest, digits, tmp_path / "half", resume=True)
    one, other = whole.latent(), rest.latent()
    assert one.calls == other.calls > 0
    assert torch.equal(one.own.get_state(), other.own.get_state())
    usage, again = whole.factors["code"].usage, rest.factors["code"].usage
    assert usage.step == again.step == 10
    assert torch.equal(usage.moments, again.moments)


def test_settings_come_from_the_recipe_not_from_the_state(digits, tmp_path):
    """Only what training itself changed is put back."""
    stopped(make(digits), digits, tmp_path, 5)
    model = make(digits)
    model.factors["code"].usage.floor = 0.5
    rates = []
    for step in rk.loop(model, digits, steps=10, batch=32, lr=0.5, out=tmp_path, resume=True):
        rates.append(step.lr)
        step.update()
    assert rates == [0.5] * 5
    assert model.factors["code"].usage.floor == 0.5


def test_a_state_of_another_model_is_refused(digits, tmp_path):
    stopped(make(digits), digits, tmp_path, 5)
    with pytest.raises(
        TrainingError,
        match=r"state is of another model: factors.code.adapter.* was \(6, 16\) and is \(8, 16\)",
    ):
        train(make(digits, "gaussian(dim=4)"), digits, tmp_path, resume=True)
    with pytest.raises(TrainingError, match="has no extra 'teacher'"):
        train(make(digits), digits, tmp_path, resume=True, extras={"teacher": torch.nn.Linear(1, 1)})


def test_another_batch_or_seed_is_warned_of(digits, tmp_path):
    stopped(make(digits), digits, tmp_path, 5)
    with pytest.warns(UserWarning, match="resumed with another batch 32 → 64, seed 0 → 1"):
        train(make(digits), digits, tmp_path, resume=True, batch=64, seed=1)


def test_a_damaged_state_falls_back_to_the_one_before(digits, tmp_path):
    stopped(make(digits), digits, tmp_path, 5, keep=3, save_every=1e-9)
    newest, before, *_ = state.saved(tmp_path / "state")
    assert (newest.name, before.name) == ("step-000000005", "step-000000004")
    tensors = newest / "tensors.pt"
    tensors.write_bytes(tensors.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="going on from .*step-000000004, since a newer state is damaged"):
        assert len(train(make(digits), digits, tmp_path, resume=True)) == 6
    for place in state.saved(tmp_path / "state"):
        (place / "tensors.pt").write_bytes(b"")
    with pytest.raises(TrainingError, match="no saved state can be read"):
        train(make(digits), digits, tmp_path, resume=True)


def test_the_newest_states_are_kept(digits, tmp_path):
    train(make(digits), digits, tmp_path, keep=2, save_every=1e-9)
    assert [place.name for place in state.saved(tmp_path / "state")] == ["step-000000010", "step-000000009"]


def test_a_full_disk_does_not_stop_the_run_nor_harm_the_older_state(digits, tmp_path, monkeypatch):
    write, attempts = torch.save, []

    def full(obj, path):
        attempts.append(path)
        if 3 <= len(attempts) <= 8:
            raise OSError(28, "No space left on device")
        write(obj, path)

    monkeypatch.setattr("reprkit.training.state.torch.save", full)
    with pytest.warns(
        UserWarning, match="no space left on the disk; older states are untouched; training goes on"
    ):
        assert len(train(make(digits), digits, tmp_path, save_every=1e-9)) == 10
    assert [place.name for place in state.saved(tmp_path / "state")] == ["step-000000010"]
    monkeypatch.setattr(
        "reprkit.training.state.torch.save",
        lambda *_: full(None, None) if attempts.append(0) else full([], None),
    )
    attempts[:] = [0, 0]
    with pytest.raises(TrainingError, match="cannot save the state at step 12"):
        train(make(digits), digits, tmp_path, steps=12, resume=True, save_every=None)
    assert [place.name for place in state.saved(tmp_path / "state")] == ["step-000000010"]


def test_stages_keep_their_states_apart(digits, tmp_path):
    model = make(digits)
    first = train(model, digits, tmp_path, stage="first")
    second = train(model, digits, tmp_path, stage="second", lr=1e-3)
    assert {place.name for place in (tmp_path / "state").iterdir()} == {"first", "second"}
    record = read_record(tmp_path)
    assert {name: each["lr"] for name, each in record["stages"].items()} == {"first": 1e-2, "second": 1e-3}
    assert [(line["stage"], line["step"]) for line in Run(tmp_path, model).metrics] == [
        ("first", 10),
        ("second", 10),
    ]
    again = make(digits)
    assert train(again, digits, tmp_path, stage="first", resume=True) == []
    assert train(again, digits, tmp_path, stage="second", lr=1e-3, resume=True) == []
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert len(first) == len(second) == 10


def test_workers_and_a_resume_in_an_epoch_s_middle_change_nothing(digits, tmp_path):
    whole, half, rest = make(digits), make(digits), make(digits)
    losses = train(whole, digits, tmp_path / "a", steps=60)  # 44 steps an epoch
    stopped(half, digits, tmp_path / "b", 50, steps=60, workers=1)
    assert train(rest, digits, tmp_path / "b", steps=60, resume=True) == losses[50:]
