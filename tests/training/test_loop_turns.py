"""The loop's optimizers and turns, refused arguments, logs, and nested loops."""

import numpy as np
import pytest
import torch
from loop_helpers import OPTIONS, lines, make, run, weights
from torch import nn

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError, TrainingError
from reprkit.training.optimizers import create_optimizer

# ------------------------------------------------------------------ optimizers


def test_optimizers_are_named_as_in_torch(digits):
    model = make(digits)
    made = create_optimizer("sgd(momentum=0.9, nesterov=True)", model.parameters(), lr=0.3)
    assert type(made) is torch.optim.SGD
    assert made.defaults["momentum"] == 0.9
    assert made.defaults["lr"] == 0.3
    adam = create_optimizer("adam-w(lr=0.5)", model.parameters(), lr=0.3, weight_decay=0.2)
    assert adam.defaults["lr"] == 0.5
    assert [group["weight_decay"] for group in adam.param_groups] == [0.2, 0.0]
    assert all(p.ndim >= 2 for p in adam.param_groups[0]["params"])
    assert all(p.ndim < 2 for p in adam.param_groups[1]["params"])
    assert sum(len(group["params"]) for group in adam.param_groups) == len(list(model.parameters()))
    with pytest.raises(
        PartArgumentError, match=r"no optimizer 'adan' that can be used here. Did you mean 'adam'"
    ):
        create_optimizer("adan", model.parameters(), lr=0.1)
    with pytest.raises(PartArgumentError, match=r"sgd has no option 'momentun'. Did you mean 'momentum'"):
        create_optimizer("sgd(momentun=0.9)", model.parameters(), lr=0.1)
    with pytest.raises(PartArgumentError, match="optimizer adam"):
        create_optimizer("adam(betas=(2.0, 0.9))", model.parameters(), lr=0.1)


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


def test_the_log_holds_the_losses_and_metrics_of_every_turn(digits):
    class RecordsEachTurn(Duel):
        def forward(self, model, batch, turn="main"):
            model.record(**{f"of_{turn}": torch.tensor(float(len(turn)))})
            return super().forward(model, batch, turn)

    model = rk.build(
        data=digits, encoder="mlp(widths=(8,))", latent="continuous(dim=3)", objective=RecordsEachTurn()
    )
    line = rk.fit(model, digits, steps=1, batch=32, log_every=1, seed=0).metrics[-1]
    assert set(line["terms"]) == {"please", "tell"}
    assert line["loss"] == pytest.approx(sum(line["terms"].values()) / 2)
    assert line["metrics"]["main_loss"] == pytest.approx(line["terms"]["please"])
    assert line["metrics"]["critic_loss"] == pytest.approx(line["terms"]["tell"])
    assert (line["metrics"]["of_main"], line["metrics"]["of_critic"]) == (4, 6)


@pytest.mark.parametrize("logged", ["main", "critic"])
def test_a_line_with_results_holds_every_turn(digits, logged):
    model = rk.build(data=digits, encoder="mlp(widths=(8,))", latent="continuous(dim=3)", objective=Duel())
    steps = rk.loop(model, digits, steps=1, batch=32, seed=0)
    for step in steps:
        losses = {}
        for turn in ("main", "critic"):
            losses[turn] = step.model(step.batch, turn=turn)
            step.backward(losses[turn].total)
            step.update(turn)
        step.log(losses[logged], {"own": {"number": 1.0}})
    line = steps.writer.lines[-1]
    assert line["results"] == {"own": {"number": 1.0}}
    assert line["metrics"]["main_loss"] == pytest.approx(losses["main"].total.item())
    assert line["metrics"]["critic_loss"] == pytest.approx(losses["critic"].total.item())
    assert set(line["terms"]) == {"please", "tell"}


def test_unknown_turns_are_refused(digits):
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
    with pytest.raises(BuildError, match="turn 'referee' but no submodule of that name"):
        list(rk.loop(model, digits, **OPTIONS))


# ------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "steps=0 must be an integer of at least 1"),
        ({"batch": 2.5}, "batch=2.5 must be an integer of at least 1"),
        ({"lr": -1.0}, "lr=-1.0 must be a number above 0"),
        ({"clip": 0.0}, "clip=0.0 must be a number above 0 or None"),
        ({"precision": "int8"}, "precision='int8' must be 'fp32', 'bf16', 'fp16' or 'fp64'"),
        ({"schedule": "cosin"}, "no schedule named 'cosin'. Did you mean 'cosine'"),
        ({"schedule": "constant(final=1)"}, "schedule constant has no option final"),
        ({"schedule": "linear(final=3)"}, r"final must be a share of the rate in \[0, 1\], not 3"),
        ({"warmup": 13}, "warmup must be a number of steps from 0 to steps=12, not 13"),
        ({"stage": "a/b"}, "stage='a/b' must be a string, folder name or None"),
        ({"weight_decay": 2}, r"weight_decay=2 must be a number from 0 to below 1 or None"),
    ],
)
def test_arguments_are_checked_at_the_call(digits, wrong, said):
    with pytest.raises(PartArgumentError, match=said):
        rk.loop(None, digits, **{**OPTIONS, **wrong})


def test_conflicting_options_are_refused(digits):
    with pytest.raises(TrainingError, match="resume=True needs out="):
        rk.loop(make(digits), digits, **OPTIONS, resume=True)
    with pytest.raises(PartArgumentError, match="ema=.* must be a number above 0 and below 1"):
        run(make(digits), digits, ema=1.5)
    with pytest.raises(PartArgumentError, match="device='tpu7' is not a device known to torch"):
        run(make(digits), digits, device="tpu7")
    with pytest.raises(DataError, match="examples do not fill one batch"):
        run(make(digits), digits, batch=100_000)
    loop = rk.loop(make(digits), digits, **{**OPTIONS, "steps": 1})
    for step in loop:
        with pytest.raises(TrainingError, match=r"takes a scalar with a gradient.*pass losses.total"):
            step.backward(step.model(step.batch))
        with pytest.raises(TrainingError, match="takes a scalar with a gradient.*a tensor of shape"):
            step.backward(step.batch["x"])
        with pytest.raises(TrainingError, match="the loss has no gradient"):
            step.backward(step.model(step.batch).total.detach())
        step.update()
    with pytest.raises(TrainingError, match="a loop can be used once"):
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


def test_a_loop_left_open_by_an_exception_does_not_affect_the_next(digits):
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
