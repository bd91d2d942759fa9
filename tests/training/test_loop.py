"""The loop: equal runs, the schedule, pieces, precision, averages."""

import math
import random
import warnings

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from loop_helpers import OPTIONS, equal, lines, make, run, weights
from torch import nn

import reprkit as rk
from reprkit.data.loading.order import Order
from reprkit.errors import TrainingError

# ------------------------------------------------------------------ the same as by hand, and again


def test_the_loop_matches_a_hand_written_loop(digits):
    """Order of examples, random draws, optimizer: all as a plain loop has them."""
    model, other = make(digits), make(digits)
    losses = run(model, digits, seed=3)
    torch.manual_seed(3)
    order = Order(len(digits), 32, 3)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in other.parameters() if p.ndim >= 2]},
            {"params": [p for p in other.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=1e-2,
        fused=True,
    )
    other.train()
    for index, loss in enumerate(losses):
        found = other(digits.batch(order.at(index)))
        assert float(found.total.detach()) == loss
        found.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        other.update()
    assert equal(weights(model), weights(other))


def test_two_runs_of_one_command_are_equal(digits):
    one, other, third = make(digits), make(digits), make(digits)
    torch.rand(5), np.random.rand(5), random.random()
    assert run(one, digits) == run(other, digits)
    assert equal(weights(one), weights(other))
    assert run(third, digits, seed=1) != run(make(digits), digits)


def test_all_generators_are_seeded_once(digits):
    drawn = []
    for _ in range(2):
        for step in rk.loop(make(digits), digits, **{**OPTIONS, "steps": 3}, log_every=0):
            step.update()
            drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert drawn[:3] == drawn[3:]
    assert len(set(drawn)) == 3


# ------------------------------------------------------------------ what a step says


def test_steps_have_index_every_and_last(digits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps = [(step.index, step.every(5), step.last) for step in rk.loop(make(digits), digits, **OPTIONS)]
    assert [index for index, _, _ in steps] == list(range(12))
    assert [index for index, every, _ in steps if every] == [4, 9]
    assert [index for index, _, last in steps if last] == [11]
    assert len(rk.loop(make(digits), digits, **OPTIONS)) == 12


def test_a_body_that_never_updates_is_warned_of(digits):
    with pytest.warns(UserWarning, match=r"first step ended without step.update\(\)"):
        list(rk.loop(make(digits), digits, **{**OPTIONS, "steps": 2}))


def test_the_model_is_left_unwrapped_in_evaluation_mode(digits):
    model = make(digits)
    model.eval()
    for step in rk.loop(model, digits, **{**OPTIONS, "steps": 2}):
        assert model.training
        assert step.model.factors is model.factors, "other attributes are the model's"
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training
    assert not {"forward", "_is_accelerate_prepared", "_original_forward"} & vars(model).keys()
    assert not AcceleratorState._shared_state
    assert not PartialState._shared_state


def test_schedule_and_warmup_set_the_rate(digits):
    rates = []
    for step in rk.loop(
        make(digits), digits, steps=10, batch=32, lr=0.1, schedule="cosine(final=0.1)", warmup=4
    ):
        rates.append(step.lr)
        step.backward(step.model(step.batch).total)
        step.update()
    expected = [0.02, 0.04, 0.06, 0.08]
    expected += [0.1 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * k / 6))) for k in range(6)]
    assert rates == pytest.approx(expected)


def test_clipping_bounds_the_gradient_and_is_logged(digits, tmp_path):
    model = make(digits)
    before = weights(model)
    run(model, digits, steps=1, clip=1e-3, optimizer="sgd", weight_decay=0.0, lr=1.0, out=tmp_path)
    moved = math.sqrt(
        sum(float((before[n] - w).square().sum()) for n, w in weights(model).items() if w.is_floating_point())
    )
    assert moved == pytest.approx(1e-3, rel=1e-3)
    assert lines(tmp_path)[-1]["metrics"]["gradient_norm"] > 1


# ------------------------------------------------------------------ pieces, precision, averages


def test_pieces_add_up_to_the_step(digits):
    """Without random draws, a step in four pieces is the step in one."""
    one, four = make(digits, "continuous(dim=3)"), make(digits, "continuous(dim=3)")
    options = {"steps": 3, "batch": 32, "lr": 1e-3, "optimizer": "sgd(momentum=0.9)"}
    run(one, digits, **options)
    seen = []
    for step in rk.loop(four, digits, **options, accumulate=4):
        assert len(step.batch["x"]) == 8
        step.backward(step.model(step.batch).total)
        step.update()
        seen.append((step.index, step.every(1), step.last))
    assert [index for index, _, _ in seen] == [index for index in range(3) for _ in range(4)]
    assert [every for _, every, _ in seen] == [False, False, False, True] * 3
    assert [last for _, _, last in seen].count(True) == 1
    for name, value in weights(four).items():
        torch.testing.assert_close(value, weights(one)[name], rtol=1e-4, atol=1e-6)


def test_a_logged_loss_is_the_mean_over_pieces(digits, tmp_path):
    for number, pieces in enumerate((1, 4)):
        model = make(digits, "continuous(dim=3)")
        for step in rk.loop(model, digits, steps=1, batch=32, accumulate=pieces, out=tmp_path / str(number)):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            if step.last:
                step.log(losses)
    one, four = lines(tmp_path / "0"), lines(tmp_path / "1")
    assert len(one) == len(four) == 1
    assert one[0]["loss"] == pytest.approx(four[0]["loss"], rel=1e-5)
    assert one[0]["terms"] == pytest.approx(four[0]["terms"], rel=1e-5)


def test_batches_not_divisible_into_pieces_are_refused(digits):
    with pytest.raises(
        TrainingError, match="32 examples a process .* cannot be split into accumulate=5 equal pieces"
    ):
        run(make(digits), digits, accumulate=5)


def test_bf16_computes_in_bf16_and_keeps_float32_weights(digits):
    model, full = make(digits), make(digits)
    seen = []
    hook = model.decoder.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    half = run(model, digits, precision="bf16")
    hook.remove()
    assert all(seen)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    whole = run(full, digits)
    assert half != whole
    assert half[0] == pytest.approx(whole[0], rel=2e-2)
    assert run(make(digits), digits) == whole, "nothing of it stays behind"


def test_averaged_weights_inside_of_averaged_and_after_the_loop(digits):
    model = make(digits, "continuous(dim=3)")
    name, parameter = next(iter(model.named_parameters()))
    average = parameter.detach().clone()
    for step in rk.loop(model, digits, **OPTIONS, ema=0.5):
        step.backward(step.model(step.batch).total)
        step.update()
        decay = min(0.5, (2 + step.index) / (11 + step.index))
        average = decay * average + (1 - decay) * parameter.detach()
        raw = parameter.detach().clone()
        with step.averaged():
            torch.testing.assert_close(parameter.detach(), average)
        assert torch.equal(parameter.detach(), raw)
    torch.testing.assert_close(dict(model.named_parameters())[name].detach(), average)


def test_compiled_parts_are_restored_after_the_loop(digits, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *_, **__: compiled.append(self))
    model = make(digits)
    run(model, digits, steps=1, compile=True)
    assert compiled == [model.factors["code"].encoder, model.decoder]
    assert model.decoder._compiled_call_impl is None
