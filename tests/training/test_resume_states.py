"""Resuming in one process: which states are accepted or refused, and what is restored."""

import os
import signal

import pytest
import torch

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.runs.reader import read_record
from reprkit.runs.run import Run
from reprkit.training.resume import state


def make(digits, latent="gaussian(dim=3)", **options):
    parts = {"encoder": "mlp(widths=(16,))", "latent": latent, "decoder": "mlp(widths=(16,))"}
    return rk.build(data=digits, **{**parts, **options})


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


def test_resume_starts_a_missing_run_and_returns_at_a_finished_one(digits, tmp_path):
    one, other = make(digits), make(digits)
    assert len(train(one, digits, tmp_path, resume=True, log_every=50)) == 10
    before = read_record(tmp_path)
    assert train(other, digits, tmp_path, resume=True) == []
    assert read_record(tmp_path) == before
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert not other.training
    assert len(train(other, digits, tmp_path, resume=True, steps=14, log_every=50)) == 4, (
        "and may be prolonged"
    )
    assert [line["step"] for line in Run(tmp_path, other).metrics] == [10, 14]


def test_a_schedule_of_weights_goes_on_after_a_resume(digits, tmp_path):
    weights = {"kl": "warmup(8)"}
    whole = train(make(digits, weights=weights), digits, tmp_path / "whole")
    stopped(make(digits, weights=weights), digits, tmp_path / "stopped", 4)
    model = make(digits, weights=weights)
    assert train(model, digits, tmp_path / "stopped", resume=True) == whole[4:]
    assert model.updates == 10


def test_counters_and_generators_of_parts_are_restored(digits, tmp_path):
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


def test_settings_are_the_recipe_s_and_not_the_state_s(digits, tmp_path):
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
        match=r"not the run that was saved:\n  latent of factor code was .*gaussian\(dim=3\) and is .*gaussian\(dim=4\)",
    ):
        train(make(digits, "gaussian(dim=4)"), digits, tmp_path, resume=True)
    with pytest.raises(TrainingError, match="has no extra 'teacher'"):
        train(make(digits), digits, tmp_path, resume=True, extras={"teacher": torch.nn.Linear(1, 1)})


def train_and_look(loop):
    """Train; return the optimizer's groups at the last step."""
    for step in loop:
        groups = [dict(group) for group in loop.train_state.optimizers["main"].param_groups]
        step.backward(step.model(step.batch).total)
        step.update()
    return groups


def test_what_may_change_is_obeyed_and_recorded_with_its_step(digits, tmp_path):
    options = {"optimizer": "adamw(betas=(0.9, 0.99))", "weight_decay": 0.1}
    stopped(make(digits), digits, tmp_path, 5, **options)
    loop = rk.loop(
        make(digits), digits, steps=8, batch=64, lr=1e-3, out=tmp_path, resume=True,
        optimizer="adamw(betas=(0.5, 0.99))", weight_decay=0.2,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="resumed with another") as warned:
        groups = train_and_look(loop)
    message = str(warned[0].message)
    assert message.startswith("resumed with another lr 0.01 → 0.001, weight_decay 0.1 → 0.2, batch 32 → 64, ")
    assert "betas [0.9, 0.99] → [0.5, 0.99]" in message
    assert {group["weight_decay"] for group in groups} == {0.2, 0.0}
    assert all(tuple(group["betas"]) == (0.5, 0.99) and group["lr"] == 1e-3 for group in groups)
    assert [entry["text"] for entry in read_record(tmp_path)["warnings"]] == [message], "for the page"
    stage = read_record(tmp_path)["stages"]["main"]
    found = {change["setting"]: (change["step"], change["from"], change["to"]) for change in stage["changes"]}
    assert found["lr"] == (5, 0.01, 0.001)
    assert found["steps"] == (5, 10, 8)
    assert found["batch"] == (5, 32, 64)
    assert found["optimizer, turn main: betas"] == (5, [0.9, 0.99], [0.5, 0.99])
    train(make(digits), digits, tmp_path, resume=True, steps=10, batch=64, lr=1e-3, **options)
    later = read_record(tmp_path)["stages"]["main"]["changes"]
    assert later[: len(stage["changes"])] == stage["changes"], "the history is kept"
    assert {change["step"] for change in later} == {5, 8}


def test_settings_that_training_itself_changed_are_put_back(digits, tmp_path):
    def warmed(**options):
        loop = rk.loop(make(digits), digits, batch=32, optimizer="sgd(momentum=0.5)", out=tmp_path, **options)
        for step in loop:
            group = loop.train_state.optimizers["main"].param_groups[0]
            if step.index == 2:
                group["momentum"] = 0.9
            step.backward(step.model(step.batch).total)
            step.update()
        return group["momentum"]

    assert warmed(steps=4) == 0.9
    assert warmed(steps=6, resume=True) == 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"optimizer": "sgd"}, "the optimizer of turn main was AdamW and is SGD"),
        ({"optimizer": "adamw(amsgrad=True)"}, "amsgrad of the optimizer of turn main was False and is True"),
    ],
)
def test_options_that_make_another_run_are_refused(digits, tmp_path, change, message):
    stopped(make(digits), digits, tmp_path, 3)
    before = read_record(tmp_path)
    with pytest.raises(TrainingError, match=f"not the run that was saved:\n  {message}"):
        train(make(digits), digits, tmp_path, resume=True, **change)
    assert read_record(tmp_path) == before


def test_other_data_and_another_objective_are_refused(digits, tmp_path):
    stopped(make(digits), digits, tmp_path, 3)
    x = digits.batch(range(len(digits)))["x"]
    other = rk.dataset({"x": 1 - x})
    same = rk.dataset({"x": x.clone()})
    stopped(make(same), same, tmp_path / "own", 3)
    with pytest.raises(TrainingError, match=r"the data was .*sha256.* and is .*sha256"):
        train(make(other), other, tmp_path / "own", resume=True)
    assert len(train(make(same), same, tmp_path / "own", resume=True)) == 7
    few = digits.subset(range(100))
    with pytest.raises(TrainingError, match=r"size of the data was \d+ and is 100"):
        train(make(few), few, tmp_path, resume=True)
    with pytest.raises(TrainingError, match="objective was reprkit/reconstruction and is .*denoising"):
        train(make(digits, objective="denoising"), digits, tmp_path, resume=True)


def test_a_damaged_state_falls_back_to_the_one_before(digits, tmp_path):
    stopped(make(digits), digits, tmp_path, 5, keep=3, save_every=1e-9)
    newest, before, *_ = state.list_saved(tmp_path / "state")
    assert (newest.name, before.name) == ("step-000000005", "step-000000004")
    tensors = newest / "tensors.pt"
    tensors.write_bytes(tensors.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="resuming from .*step-000000004, since a newer state is damaged"):
        assert len(train(make(digits), digits, tmp_path, resume=True)) == 6
    for place in state.list_saved(tmp_path / "state"):
        (place / "tensors.pt").write_bytes(b"")
    with pytest.raises(TrainingError, match="no saved state can be read"):
        train(make(digits), digits, tmp_path, resume=True)


def test_keep_keeps_the_newest_states(digits, tmp_path):
    train(make(digits), digits, tmp_path, keep=2, save_every=1e-9)
    assert [place.name for place in state.list_saved(tmp_path / "state")] == [
        "step-000000010",
        "step-000000009",
    ]


def test_a_full_disk_stops_neither_the_run_nor_older_states(digits, tmp_path, monkeypatch):
    write, attempts = torch.save, []

    def full(obj, path):
        attempts.append(path)
        if 3 <= len(attempts) <= 8:
            raise OSError(28, "No space left on device")
        write(obj, path)

    monkeypatch.setattr("reprkit.training.resume.state.torch.save", full)
    with pytest.warns(
        UserWarning, match="no space left on the disk; older states are untouched; training continues"
    ):
        assert len(train(make(digits), digits, tmp_path, save_every=1e-9)) == 10
    assert [place.name for place in state.list_saved(tmp_path / "state")] == ["step-000000010"]
    monkeypatch.setattr(
        "reprkit.training.resume.state.torch.save",
        lambda *_: full(None, None) if attempts.append(0) else full([], None),
    )
    attempts[:] = [0, 0]
    with pytest.raises(TrainingError, match="cannot save the state at step 12"):
        train(make(digits), digits, tmp_path, steps=12, resume=True, save_every=None)
    assert [place.name for place in state.list_saved(tmp_path / "state")] == ["step-000000010"]


def test_stages_have_separate_states(digits, tmp_path):
    model = make(digits)
    first = train(model, digits, tmp_path, stage="first", log_every=50)
    second = train(model, digits, tmp_path, stage="second", lr=1e-3, log_every=50)
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


@pytest.mark.slow
def test_workers_and_a_resume_in_an_epoch_s_middle_change_nothing(digits, tmp_path):
    whole, half, rest = make(digits), make(digits), make(digits)
    losses = train(whole, digits, tmp_path / "a", steps=60)  # 44 steps an epoch
    stopped(half, digits, tmp_path / "b", 50, steps=60, workers=1)
    assert train(rest, digits, tmp_path / "b", steps=60, resume=True) == losses[50:]
