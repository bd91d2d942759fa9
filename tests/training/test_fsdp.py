"""FSDP2: two processes with a shard each train, save, resume, average, evaluate and stop as one process does."""

import json

import pytest
import torch
from loop_helpers import assert_states_close

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.runs.reader import read_metrics
from reprkit.testing.pool import together
from reprkit.training import fsdp
from reprkit.training.resume import state
from reprkit.utils import sharded_tensors

pytestmark = pytest.mark.ranks
LATENTS = [
    "continuous(dim=4)",
    "gaussian(dim=4)",
    "vq(codes=16, dim=2, codebooks=2)",
    "vq(codes=16, dim=2, update='gradient')",
]


def slow(case):
    return pytest.param(case, marks=pytest.mark.slow)


def built(latent, encoder="vit(patch=4, width=16, depth=2, heads=2)", decoder="mlp(widths=(17,))", **options):
    data = rk.dataset("digits").split()[0]
    return data, rk.build(data=data, encoder=encoder, latent=latent, decoder=decoder, **options)


def train(rank, latent, out=None, steps=6, action=None, parts=None, **options):
    """Train on this process; returns the weights, what ended it, and what was evaluated."""
    torch.set_num_threads(1)
    fsdp.BLOCK = 1  # blocks by themselves, however small
    data, model = built(latent, **(parts or {}))
    before = {name: (type(module), id(module)) for name, module in model.named_modules()}
    held = [id(parameter) for parameter in model.parameters()]
    given = {"batch": 32, "lr": 1e-2, "optimizer": "sgd(momentum=0.9)", "clip": 1.0, "log_every": 1}
    given |= {"device": "cpu", "out": out, "ema": 0.9, "steps": steps, "progress": False}
    ended, seen = "end", []
    try:
        for step in rk.loop(model, data, **{**given, **options}):
            if step.index == 1 and step.model.training:
                seen.append(sum(sharded_tensors.is_sharded(weight) for weight in model.parameters()))
            losses = step.model(step.batch)
            total = losses.total * (
                float("nan") if action == "nan" and step.index == 3 and rank == 1 else 1.0
            )
            step.backward(total)
            if step.index % 2:
                rk.evaluate(
                    model, data, "reconstruction", examples=0, progress=False
                )  # gathers between backward and update
            step.update()
            if step.every(3):
                with step.averaged():
                    found = rk.evaluate(model, data, "reconstruction", examples=0, progress=False)
                seen.append(found["reconstruction"]["error"])
                if action == "save":
                    model.save(out / "midway")
    except (TrainingError, SystemExit) as error:
        ended = f"{type(error).__name__}: {error}"
    if ended == "end":
        assert {name: (type(module), id(module)) for name, module in model.named_modules()} == before
        assert [id(parameter) for parameter in model.parameters()] == held
    return (
        {name: value.clone() for name, value in model.state_dict().items()} if ended == "end" else {},
        ended,
        seen,
    )


def cut(rank, *args, **options):
    return train(rank, *args, **{"strategy": "fsdp", **options})


def with_options(rank, args, options):
    return cut(rank, *args, **options)


def pair(*args, **options):
    return together(2, with_options, args, options, timeout=250)


@pytest.mark.parametrize("latent", [LATENTS[0], slow(LATENTS[1]), LATENTS[2], slow(LATENTS[3])])
def test_two_shards_train_as_one_process(latent, tmp_path):
    alone, _, errors = train(0, latent, tmp_path / "one")
    for weights, ended, seen in pair(latent, tmp_path / "two"):
        assert ended == "end"
        assert_states_close(weights, alone)
        assert seen[0] > 20, "weights are cut while it trains"
        assert seen[1:] == pytest.approx(errors[1:], rel=1e-5)
    for one, two in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two"), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
        assert one["metrics"]["gradient_norm"] == pytest.approx(two["metrics"]["gradient_norm"], rel=1e-5)
        assert one["metrics"]["usage"] == pytest.approx(two["metrics"]["usage"])


PARTS = {
    "causal": {"encoder": "gru(width=8)", "decoder": "gru(width=8)", "objective": "autoregressive"},
    "two views": {
        "encoder": "conv(width=8)",
        "decoder": "conv(width=8)",
        "objective": "denoising + 0.1 * contrastive",
    },
    "tied": {"encoder": "mlp(widths=(32, 16))", "decoder": "mirror"},
    "flat": {"encoder": "flat", "decoder": "mirror"},
    "masked": {
        "encoder": "vit(patch=2, width=16, depth=1, heads=2)",
        "decoder": "vit(patch=2, width=16, depth=2, heads=2)",
        "objective": "masked",
    },
}
# With a large eps: else gradients that are zero but for rounding (of biases of keys, and before norms) decide by their sign.
OPTIMIZERS = {
    "causal": "rmsprop(eps=1e-2)",
    "two views": "sgd(momentum=0.9)",
    "tied": "adamw(eps=1e-2)",
    "flat": "sgd(momentum=0.9)",
    "masked": "adamw(eps=1e-2)",
}


@pytest.mark.parametrize("name", [slow(each) for each in PARTS])
def test_other_objectives_and_optimizers(name):
    parts = PARTS[name]
    given = {"parts": parts, "optimizer": OPTIMIZERS[name], "lr": 1e-3, "steps": 4}
    alone, ended, _ = train(0, "continuous(dim=4)", **given)
    assert ended == "end"
    for weights, ended, _ in pair("continuous(dim=4)", **given):
        assert ended == "end"
        assert_states_close(weights, alone)


@pytest.mark.slow
def test_pieces_match_the_whole_batch():
    alone, *_ = train(0, LATENTS[0])
    for weights, ended, _ in pair(LATENTS[0], accumulate=2):
        assert ended == "end"
        assert_states_close(weights, alone)


@pytest.mark.slow
@pytest.mark.parametrize("latent", [slow(LATENTS[1]), LATENTS[2]])
def test_sharded_and_whole_models_resume_each_other_s_states(latent, tmp_path):
    adam = {"optimizer": "adamw(eps=1e-2)", "lr": 1e-3}
    whole, *_ = train(0, latent, steps=6, **adam)
    train(0, latent, tmp_path / "a", steps=3, **adam)
    for weights, ended, _ in pair(latent, tmp_path / "a", steps=6, resume=True, **adam):
        assert ended == "end"
        assert_states_close(weights, whole)
    pair(latent, tmp_path / "b", steps=3, **adam)
    weights, ended, _ = train(0, latent, tmp_path / "b", steps=6, resume=True, **adam)
    assert ended == "end"
    assert_states_close(weights, whole)
    pair(latent, tmp_path / "c", steps=3, **adam)
    for weights, ended, _ in pair(latent, tmp_path / "c", steps=6, resume=True, strategy="ddp", **adam):
        assert ended == "end"
        assert_states_close(weights, whole)
    options = json.loads((state.list_saved(tmp_path / "c" / "state")[0] / "state.json").read_text())[
        "options"
    ]
    assert (options["strategy"], options["ranks"]) == ("ddp", 2)


def test_a_sharded_model_is_saved_whole(tmp_path):
    alone, *_ = train(0, LATENTS[1], tmp_path / "one", steps=3, action="save", ema=None)
    for weights, ended, _ in pair(LATENTS[1], tmp_path / "two", steps=3, action="save", ema=None):
        assert ended == "end"
        assert_states_close(weights, alone)
    saved = rk.load(tmp_path / "two" / "midway")
    assert_states_close(saved.state_dict(), {name: alone[name] for name in saved.state_dict()})


@pytest.mark.slow
def test_a_non_finite_loss_stops_all_ranks(tmp_path):
    first, second = pair(LATENTS[0], tmp_path, action="nan", clip=None)
    assert first[1].startswith(
        "TrainingError: the gradient's norm is nan at step 3\n  not finite in the gradient of factors.code"
    )
    assert second[1].startswith("TrainingError: the loss is nan at step 3")


def test_an_optimizer_of_unsharded_weights_is_refused():
    for complaint in together(2, own_optimizer):
        assert "give it by name, such as optimizer='sgd(...)'" in complaint


def own_optimizer(rank):
    data, model = built(LATENTS[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        for _ in rk.loop(model, data, steps=1, batch=32, device="cpu", strategy="fsdp", optimizer=optimizer):
            pass
    except TrainingError as error:
        return str(error)
    return "it was taken"


def restart_after_break(rank):
    data, model = built(LATENTS[0])
    given = {"steps": 4, "batch": 32, "device": "cpu", "strategy": "fsdp", "progress": False}
    for step in rk.loop(model, data, **given):
        step.backward(step.model(step.batch).total)
        step.update()
        if step.index == 1:
            break
    cut_still = any(map(sharded_tensors.is_sharded, model.parameters()))
    for step in rk.loop(model, data, **given | {"strategy": "ddp"}):
        step.backward(step.model(step.batch).total)
        step.update()
    return cut_still, any(map(sharded_tensors.is_sharded, model.parameters()))


def test_a_model_is_whole_at_the_next_loop_after_a_break():
    assert together(2, restart_after_break) == [(True, False)] * 2


def test_one_process_shards_nothing():
    plain, *_ = train(0, LATENTS[0])
    weights, _, seen = cut(0, LATENTS[0])
    assert_states_close(weights, plain, 0)
    assert seen[0] == 0
    with pytest.raises(rk.ReprkitError, match="strategy='fdsp' must be 'ddp', 'fsdp', 'hsdp'"):
        rk.loop(*reversed(built(LATENTS[0])), steps=1, strategy="fdsp")


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"precision": "bf16"}, {"compile": True}])
def test_fsdp_with_bf16_and_compile(how):
    given = {"parts": {"encoder": "mlp(widths=(16,))", "decoder": "mlp(widths=(17,))"}, "steps": 3}
    alone, *_ = train(0, LATENTS[1], **given, **({} if "compile" in how else how))
    for weights, ended, _ in pair(LATENTS[1], **given, **how):
        assert ended == "end"
        assert {value.dtype for value in weights.values()} <= {torch.float32, torch.int64}
        assert_states_close(weights, alone, 1e-6 if "compile" in how else 1e-4)


def train_with_counters(rank):
    data, model = built(LATENTS[0])
    encoder = model.factors["code"].encoder
    encoder.register_buffer("seen", torch.zeros(()))
    encoder.calls = 0
    names = set(vars(encoder))
    for step in rk.loop(model, data, steps=2, batch=32, device="cpu", strategy="fsdp", progress=False):
        inside = model.factors["code"].encoder
        inside.seen = inside.seen + 1  # another tensor
        inside.calls += 1
        step.backward(step.model(step.batch).total)
        step.update()
    back = model.factors["code"].encoder
    return inside is encoder, back is encoder, float(back.seen), back.calls, set(vars(back)) == names


def test_undo_copies_state_to_the_originals():
    assert together(2, train_with_counters) == [(False, True, 2.0, 2, True)] * 2
