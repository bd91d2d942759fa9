"""``precision="fp16"``: losses are scaled, steps that overflow are skipped and counted, and runs resume exactly."""

import warnings

import pytest
import torch
from loop_helpers import assert_states_close, equal, lines, make, weights
from test_fsdp import built
from test_loop_turns import Duel
from test_sparse_gradients import build as build_sparse
from test_sparse_gradients import data as words
from torch import nn

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.runs.reader import read_metrics
from reprkit.testing.pool import together
from reprkit.training import engine
from reprkit.training.loss_scaling import LossScaler
from reprkit.training.monitor import non_finite
from reprkit.training.resume import state
from reprkit.utils.sharded_tensors import local_shard

GIVEN = {"steps": 6, "batch": 32, "lr": 1e-2, "device": "cpu", "progress": False, "log_every": 1}
SGD = {"optimizer": "sgd(momentum=0.9)", "clip": 1.0}
SMALL = 1e-2  # times the loss, whose gradients then fit into float16 at the first scale
HUGE = 1e30  # times the loss: finite in float32, and its gradients overflow in float16


def train(model, data, overflows=(), changes=None, factor=HUGE, **options):
    """Train in fp16; the loss of the steps in ``overflows`` is so large that its scaled gradients overflow."""
    for step in rk.loop(model, data, **{"precision": "fp16", **GIVEN, **options}):
        before = weights(model)
        losses = step.model(step.batch)
        step.backward(losses.total * (factor if step.index in overflows else SMALL))
        step.update()
        if changes is not None:
            changes.append(not equal(before, weights(model)))
    return weights(model)


def metrics(out, name):
    return [line["metrics"][name] for line in lines(out)]


@pytest.mark.parametrize("optimizer", [{}, SGD, {"optimizer": "adamw(fused=False)", "clip": 0.1}])
def test_fp16_trains_as_fp32_does(digits, tmp_path, optimizer):
    losses, norms = {}, {}
    for precision in ("fp32", "bf16", "fp16"):
        out = tmp_path / precision
        train(make(digits), digits, precision=precision, steps=40, out=out, **optimizer)
        losses[precision] = [line["loss"] for line in lines(out)]
        norms[precision] = metrics(out, "gradient_norm")
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=1e-2)
    assert losses["fp16"] != losses["fp32"]
    assert norms["fp16"] == pytest.approx(norms["fp32"], rel=3e-2), "norms are those of unscaled gradients"
    assert losses["fp16"][-1] < 0.95 * losses["fp16"][0]
    # float16 has three more bits than bfloat16.
    error = {
        name: sum(abs(a - b) for a, b in zip(losses[name], losses["fp32"], strict=True))
        for name in ("fp16", "bf16")
    }
    assert error["fp16"] < error["bf16"]
    assert metrics(tmp_path / "fp16", "skipped_steps")[-1] == 0


def test_the_scale_falls_until_gradients_fit(digits, tmp_path):
    for step in rk.loop(make(digits), digits, precision="fp16", out=tmp_path, **GIVEN | {"steps": 40}):
        losses = step.model(step.batch)
        step.backward(losses.total * 30)
        step.update()
    skipped = metrics(tmp_path, "skipped_steps")
    assert 1 <= skipped[-1] < 16
    assert metrics(tmp_path, "loss_scale") == [2.0 ** (16 - count) for count in skipped]
    found = [line["loss"] for line in lines(tmp_path)]
    assert found[-1] < 0.8 * found[0]


def test_layers_compute_in_float16_and_the_model_is_float32_again(digits):
    model = make(digits)
    found = set()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda module, given, out: found.add(out.dtype))
    trained = train(model, digits, steps=1)
    assert found == {
        torch.float16,
        torch.float32,
    }  # encoder and decoder; the map before a latent is in float32
    assert {value.dtype for value in trained.values()} <= {torch.float32, torch.int64}
    found.clear()
    model(digits.batch(range(4)))
    assert found == {torch.float32}, "autocast ends with the loop"


@pytest.mark.parametrize("optimizer", ["adamw", "sgd(momentum=0.9)", "rmsprop(lr=1e-4)", "muon"])
def test_a_step_that_overflows_is_skipped(digits, tmp_path, optimizer):
    changes: list[bool] = []
    train(
        make(digits, latent="continuous(dim=3)"), digits, (2, 3), changes, optimizer=optimizer, out=tmp_path
    )
    assert changes == [True, True, False, False, True, True]
    assert metrics(tmp_path, "skipped_steps") == [0, 0, 1, 2, 2, 2]
    assert metrics(tmp_path, "loss_scale") == [2.0**16] * 2 + [2.0**15] + [2.0**14] * 3
    assert [norm is None for norm in metrics(tmp_path, "gradient_norm")] == [False] * 2 + [True] * 2 + [
        False
    ] * 2


def test_a_skipped_step_leaves_the_optimizer_as_it_was(digits):
    def steps_of(model, optimizer, overflows):
        for step in rk.loop(model, digits, precision="fp16", optimizer=optimizer, **GIVEN | {"steps": 3}):
            losses = step.model(step.batch)
            step.backward(losses.total * (HUGE if step.index in overflows else SMALL))
            step.update()
        return [float(entry["step"]) for entry in optimizer.state.values()]

    model = make(digits)
    assert set(steps_of(model, torch.optim.AdamW(model.parameters(), fused=True), (1,))) == {2.0}


def test_resume_is_bit_exact_also_after_a_skipped_step(digits, tmp_path):
    whole = train(make(digits), digits, (1, 4), out=tmp_path / "whole")
    train(make(digits), digits, (1,), out=tmp_path / "parts", steps=3)
    resumed = train(make(digits), digits, (4,), out=tmp_path / "parts", resume=True)
    assert equal(whole, resumed)
    for name in ("loss_scale", "skipped_steps"):
        assert metrics(tmp_path / "whole", name) == metrics(tmp_path / "parts", name)


def test_states_resume_in_another_precision(digits, tmp_path):
    train(make(digits), digits, out=tmp_path, steps=2, precision="fp32")
    for precision, steps in (("fp16", 4), ("fp32", 6)):
        with pytest.warns(UserWarning, match="another precision"):
            train(make(digits), digits, out=tmp_path, steps=steps, resume=True, precision=precision)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("fault", [{"scale": -1.0}, {"scale": float("inf")}, {"skipped": -1}, {"steps": -2}])
def test_a_damaged_scale_is_refused(fault):
    scaler = LossScaler(torch.device("cpu"))
    with pytest.raises(ValueError, match="its loss scale"):
        scaler.load_state_dict({**scaler.state_dict(), **fault})


def test_gradients_that_are_never_finite_stop_the_run(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(non_finite, "LOWEST", 2.0**15)
    model = make(digits)
    with pytest.raises(TrainingError, match=r"gradient's norm is (inf|nan) at step 4") as raised:
        train(model, digits, (2, 3, 4), out=tmp_path)
    assert "not finite in the gradient of" in str(raised.value)
    with pytest.raises(
        TrainingError, match="the loss is nan at step 1"
    ):  # of the loss itself: no scale helps
        train(make(digits), digits, (1,), factor=float("nan"))


@pytest.mark.parametrize(
    "parts",
    [{}, {"objective": "contrastive", "decoder": None}, {"latent": "vq(codes=8, dim=2, kmeans=False)"}],
)
def test_pieces_match_the_whole_batch(digits, parts):
    one, four = (train(make(digits, **parts), digits, accumulate=n, **SGD) for n in (1, 4))
    assert_states_close(one, four, 2e-3)


def test_every_turn_is_scaled(digits):
    model = rk.build(data=digits, encoder="mlp(widths=(8,))", latent="continuous(dim=3)", objective=Duel())
    changed = []
    for step in rk.loop(model, digits, precision="fp16", **GIVEN | {"steps": 3}):
        for turn in ("main", "critic"):
            before = weights(model)
            total = step.model(step.batch, turn=turn).total.float()
            step.backward(total * (HUGE if turn == "critic" and step.index == 1 else SMALL))
            step.update(turn)
            changed.append(not equal(before, weights(model)))
    assert changed == [True, True, True, False, True, True]


def test_what_cannot_be_scaled_is_refused(digits):
    with pytest.raises(TrainingError, match="cannot be used with precision='fp16'"):
        train(make(digits), digits, optimizer="lbfgs")
    with pytest.raises(TrainingError, match="computes a gradient within its loss"):
        train(make(digits, objective="reconstruction + 0.1 * contractive"), digits)
    with pytest.raises(TrainingError, match="are sparse, which precision='fp16' does not scale"):
        train(build_sparse(), words(), optimizer="sgd", batch=8)


def test_a_device_without_bfloat16_is_told_of_fp16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    with pytest.warns(UserWarning, match=r"\(Tesla V100\).*use precision='fp16'"):
        engine._warn_of_emulation(torch.device("cuda", 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine._warn_of_emulation(torch.device("cpu"))


def on_rank(rank, strategy, out):
    """Train with an overflow on rank 1 alone; returns the weights and which steps changed them."""
    data, model = built("vq(codes=16, dim=2, codebooks=2)")
    changes: list[bool] = []
    for step in rk.loop(model, data, precision="fp16", strategy=strategy, out=out, **GIVEN, **SGD):
        before = [local_shard(weight.detach()).clone() for weight in model.parameters()]
        losses = step.model(step.batch)
        step.backward(losses.total * (HUGE if step.index == 2 and rank != 0 else SMALL))
        step.update()
        now = [local_shard(weight.detach()) for weight in model.parameters()]
        changes.append(not all(map(torch.equal, before, now)))
    return weights(model), changes


@pytest.mark.ranks
@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "ranks"), [("ddp", 2), ("fsdp", 2), ("hsdp(shards=2)", 4)])
def test_ranks_skip_a_step_together(strategy, ranks, tmp_path):
    alone, changes = on_rank(1, "ddp", tmp_path / "one")
    assert changes == [True, True, False, True, True, True]
    for found, changed in together(ranks, on_rank, strategy, tmp_path / "many", timeout=250):
        assert changed == changes
        assert_states_close(found, alone, 3e-3)
    one, many = ([line["metrics"] for line in read_metrics(tmp_path / name)] for name in ("one", "many"))
    for a, b in zip(one, many, strict=True):
        assert (a["loss_scale"], a["skipped_steps"]) == (b["loss_scale"], b["skipped_steps"])
    saved = state.load_newest(tmp_path / "many" / "state")[1]["loss_scaling"]
    assert saved == {"scale": 2.0**15, "steps": 3, "skipped": 1}
