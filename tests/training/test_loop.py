"""The loop: equal runs, the schedule, pieces, averages, logs, the recipe's text."""

import json
import math
import random
import warnings

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch import nn

import reprkit as rk
from reprkit.data.order import Order
from reprkit.errors import BuildError, DataError, PartArgumentError, TrainingError
from reprkit.training.optimisers import named

OPTIONS = {"steps": 12, "batch": 32, "lr": 1e-2}


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits").split()[0]


def make(digits, latent="gaussian(dim=3)", **more):
    given = {
        "encoder": "mlp(widths=(16,))",
        "decoder": "mlp(widths=(16,))",
        "objective": "reconstruction",
        **more,
    }
    return rk.build(data=digits, latent=latent, **given)


def run(model, data, **options):
    """The recipe's four lines; returns the losses."""
    found = []
    for step in rk.loop(model, data, **{**OPTIONS, **options}):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        found.append(float(losses.total.detach()))
    return found


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------ the same as by hand, and again


def test_it_is_the_loop_one_would_write_by_hand(digits):
    """Order of examples, random draws, optimiser: all as a plain loop has them."""
    model, other = make(digits), make(digits)
    losses = run(model, digits, seed=3)
    torch.manual_seed(3)
    order = Order(len(digits), 32, 3)
    optimiser = torch.optim.AdamW(
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
        optimiser.step()
        optimiser.zero_grad()
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


def test_the_steps_count_and_know_the_last(digits):
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


def test_the_model_is_left_as_one_that_is_used(digits):
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


def test_pieces_that_do_not_come_out_even_are_refused(digits):
    with pytest.raises(
        TrainingError, match="32 examples a process .* cannot be cut into accumulate=5 equal pieces"
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


def test_the_average_of_the_weights_is_looked_at_and_left_in_the_model(digits):
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


def test_compiled_parts_are_plain_again_afterwards(digits, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *_, **__: compiled.append(self))
    model = make(digits)
    run(model, digits, steps=1, compile=True)
    assert compiled == [model.factors["code"].encoder, model.decoder]
    assert model.decoder._compiled_call_impl is None


# ------------------------------------------------------------------ optimisers


def test_optimisers_go_by_torch_s_names(digits):
    model = make(digits)
    made = named("sgd(momentum=0.9, nesterov=True)", model.parameters(), lr=0.3)
    assert type(made) is torch.optim.SGD
    assert made.defaults["momentum"] == 0.9
    assert made.defaults["lr"] == 0.3
    adam = named("adam-w(lr=0.5)", model.parameters(), lr=0.3, weight_decay=0.2)
    assert adam.defaults["lr"] == 0.5
    assert [group["weight_decay"] for group in adam.param_groups] == [0.2, 0.0]
    assert all(p.ndim >= 2 for p in adam.param_groups[0]["params"])
    assert all(p.ndim < 2 for p in adam.param_groups[1]["params"])
    assert sum(len(group["params"]) for group in adam.param_groups) == len(list(model.parameters()))
    with pytest.raises(PartArgumentError, match=r"no optimiser 'adan' that fits here. Did you mean 'adam'"):
        named("adan", model.parameters(), lr=0.1)
    with pytest.raises(PartArgumentError, match=r"sgd has no option 'momentun'. Did you mean 'momentum'"):
        named("sgd(momentun=0.9)", model.parameters(), lr=0.1)
    with pytest.raises(PartArgumentError, match="optimiser adam"):
        named("adam(betas=(2.0, 0.9))", model.parameters(), lr=0.1)
    with pytest.raises(PartArgumentError, match="'lbfgs'"):
        named("lbfgs", model.parameters(), lr=0.1)


class Duel(rk.Objective):
    """Two turns: the model pleases the critic, the critic tells codes from noise."""

    needs = frozenset({"encoder"})
    turns = ("main", "critic")

    def bind(self, model):
        self.critic = nn.Linear(model.latent().out_dim, 1)

    def forward(self, model, batch, turn="main"):
        z = model.encode(batch).z.mean(1)
        if turn == "main":
            return {"please": self.critic(z).square().mean()}
        return {
            "tell": (self.critic(z.detach()) - 1).square().mean()
            + self.critic(torch.randn_like(z)).square().mean()
        }


def test_a_turn_trains_its_own_parameters(digits):
    model = rk.build(data=digits, encoder="mlp(widths=(8,))", latent="continuous(dim=3)", objective=Duel())
    held = torch.optim.SGD(model.objective.critic.parameters(), lr=0.5)
    for critic in ("sgd(lr=0.5)", held):
        for step in rk.loop(model, digits, steps=2, batch=32, optimizers={"critic": critic}):
            before = weights(model)
            step.backward(step.model(step.batch).total)
            step.update()
            between = weights(model)
            step.backward(step.model(step.batch, turn="critic").total)
            step.update("critic")
            after = weights(model)
            critics = {name for name in before if name.startswith("objective.critic")}
            moved = {name for name in before if not torch.equal(before[name], between[name])}
            assert not moved & critics
            assert any("encoder" in name for name in moved)
            assert {name for name in before if not torch.equal(between[name], after[name])} == critics


def test_turns_that_are_not_there_are_named(digits):
    model = rk.build(data=digits, encoder="mlp(widths=(8,))", latent="continuous(dim=3)", objective=Duel())
    with pytest.raises(BuildError, match=r"no turn 'critics'. Did you mean 'critic'"):
        list(rk.loop(model, digits, **OPTIONS, optimizers={"critics": "adam"}))
    with pytest.raises(TrainingError, match="accumulate=2 cannot be used with an objective of several turns"):
        list(rk.loop(model, digits, **OPTIONS, accumulate=2))
    for step in rk.loop(model, digits, **OPTIONS):
        with pytest.raises(TrainingError, match=r"no turn 'judge'.*\n  its turns: main, critic"):
            step.update("judge")
        break
    model.objective.turns = ("main", "referee")
    with pytest.raises(BuildError, match="turn 'referee' and no submodule of that name"):
        list(rk.loop(model, digits, **OPTIONS))


# ------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "steps is a whole number from 1, not 0"),
        ({"batch": 2.5}, "batch is a whole number from 1, not 2.5"),
        ({"lr": -1.0}, "lr is a positive number, not -1.0"),
        ({"clip": 0.0}, "clip is a positive number or None"),
        ({"precision": "fp16"}, "precision is one of fp32, bf16, not 'fp16'"),
        ({"schedule": "cosin"}, "no schedule named 'cosin'. Did you mean 'cosine'"),
        ({"schedule": "constant(final=1)"}, "schedule constant has no option final"),
        ({"schedule": "linear(final=3)"}, r"final is a share of the rate in \[0, 1\], not 3"),
        ({"warmup": 13}, "warmup is a number of steps from 0 to steps=12, not 13"),
        ({"stage": "a/b"}, "stage names a folder"),
        ({"weight_decay": 2}, r"weight_decay lies in \[0, 1\)"),
    ],
)
def test_arguments_are_checked_at_the_call(digits, wrong, said):
    with pytest.raises(PartArgumentError, match=said):
        rk.loop(None, digits, **{**OPTIONS, **wrong})


def test_what_does_not_go_together_is_refused(digits):
    with pytest.raises(TrainingError, match="resume=True needs out="):
        rk.loop(make(digits), digits, **OPTIONS, resume=True)
    with pytest.raises(PartArgumentError, match="ema is how slowly"):
        run(make(digits), digits, ema=1.5)
    with pytest.raises(PartArgumentError, match="device='tpu7' is not a device that torch knows"):
        run(make(digits), digits, device="tpu7")
    with pytest.raises(DataError, match="examples do not fill one batch"):
        run(make(digits), digits, batch=100_000)
    loop = rk.loop(make(digits), digits, **{**OPTIONS, "steps": 1})
    for step in loop:
        with pytest.raises(TrainingError, match=r"takes one number with a gradient.*write losses.total"):
            step.backward(step.model(step.batch))
        with pytest.raises(TrainingError, match="takes one number with a gradient.*a tensor of shape"):
            step.backward(step.batch["x"])
        with pytest.raises(TrainingError, match="the loss has no gradient"):
            step.backward(step.model(step.batch).total.detach())
        step.update()
    with pytest.raises(TrainingError, match="a loop is used once"):
        iter(loop)
    with pytest.raises(TrainingError, match="the loop is not running"):
        step.update()


# ------------------------------------------------------------------ logs


def test_the_metrics_hold_losses_terms_metrics_and_results(digits, tmp_path):
    for step in rk.loop(make(digits), digits, **OPTIONS, out=tmp_path, log_every=5):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(4):
            step.log(
                losses,
                {"knn": {"accuracy": 0.5, "figures": {"x": np.zeros(3)}}, "best": float("nan")},
                extra=3,
            )
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [4, 5, 8, 10, 12]
    assert found[0]["results"] == {"knn": {"accuracy": 0.5}, "best": None}
    assert found[0]["metrics"]["extra"] == 3
    assert "results" not in found[1]
    assert found[-1]["loss"] == float(losses.total.detach())
    assert found[-1]["terms"].keys() == {"reconstruction", "kl"}
    assert found[-1]["terms"]["kl"] == float(losses.terms["kl"])
    assert found[-1]["metrics"]["usage"] == float(losses.metrics["usage"])
    assert found[-1]["lr"] == 1e-2


def test_tensorboard_gets_the_same_numbers(digits, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(make(digits), digits, out=tmp_path, track="tensorboard", log_every=6)
    (folder,) = {
        path.parent for path in tmp_path.rglob("events.out.tfevents*") if path.parent.name == "tracked"
    }
    events = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (line["step"], pytest.approx(line["loss"])) for line in lines(tmp_path)
    ]
    with pytest.raises(TrainingError, match="needs out="):
        run(make(digits), digits, track="tensorboard")
    with pytest.raises(TrainingError, match="nothingboard"):
        run(make(digits), digits, out=tmp_path / "b", track="nothingboard")


def test_loops_may_run_inside_of_loops(digits):
    alone = run(make(digits), digits)
    outer, inner = [], []
    for step in rk.loop(make(digits), digits, **OPTIONS):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        outer.append(float(losses.total.detach()))
        if step.index == 3:
            before = torch.get_rng_state()
            inner = run(make(digits), digits)
            torch.set_rng_state(before)
    assert outer == inner == alone


def test_a_loop_left_open_by_an_exception_is_not_in_the_way(digits):
    """As in a notebook, where the last traceback holds the loop."""
    model, held = make(digits), []
    alone = run(make(digits), digits)
    try:
        for step in rk.loop(model, digits, **OPTIONS, precision="bf16"):
            step.update()
            raise ValueError("mine")
    except ValueError as error:
        held.append(error)
    assert run(model, digits) == alone
    assert run(make(digits), digits, precision="bf16") != alone
    assert held
