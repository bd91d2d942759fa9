"""Hybrid sharding: four processes, two models of two shards each, train, save and resume as one process does."""

import pytest
from loop_helpers import assert_states_close
from test_fsdp import LATENTS, built, train

import reprkit as rk
from reprkit.errors import PartArgumentError, TrainingError
from reprkit.runs.reader import read_metrics, read_record
from reprkit.testing.pool import together
from reprkit.training.strategies import Strategy, strategy_from
from reprkit.utils import sharded_tensors

HSDP = "hsdp(shards=2)"
ADAM = {"optimizer": "adamw(eps=1e-2)", "lr": 1e-3}


def with_options(rank, args, options):
    return train(rank, *args, **{"strategy": HSDP, **options})


def four(*args, n=4, **options):
    return together(n, with_options, args, options, timeout=250)


@pytest.mark.ranks
@pytest.mark.slow
@pytest.mark.parametrize("latent", [LATENTS[1], LATENTS[2]])
def test_two_models_of_two_shards_train_as_one_process(latent, tmp_path):
    alone, _, errors = train(0, latent, tmp_path / "one", action="save")
    for weights, ended, seen in four(latent, tmp_path / "four", action="save"):
        assert ended == "end"
        assert_states_close(weights, alone)
        assert seen[0] > 20, "weights are sharded while it trains"
        assert seen[1:] == pytest.approx(errors[1:], rel=1e-5)
    for one, many in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "four"), strict=True):
        assert one["loss"] == pytest.approx(many["loss"], rel=1e-5)
        # Clipped in every step: a norm that counted a shard once per model would change the weights, too.
        assert one["metrics"]["gradient_norm"] == pytest.approx(many["metrics"]["gradient_norm"], rel=1e-5)
    record = read_record(tmp_path / "four")["stages"]["main"]
    assert (record["strategy"], record["ranks"]) == (HSDP, 4)
    midway = rk.load(tmp_path / "four" / "midway").state_dict()
    assert_states_close(midway, rk.load(tmp_path / "one" / "midway").state_dict())


@pytest.mark.ranks
@pytest.mark.slow
@pytest.mark.parametrize("saving", ["gathered", "sharded"])
def test_states_resume_under_other_strategies_and_numbers_of_processes(saving, tmp_path):
    whole, *_ = train(0, LATENTS[1], **ADAM)
    four(LATENTS[1], tmp_path, steps=2, saving=saving, **ADAM)
    for ranks, strategy, steps in ((2, "fsdp", 3), (4, HSDP, 4), (2, "ddp", 5), (4, "fsdp", 6)):
        given = {"steps": steps, "strategy": strategy, "saving": saving, "resume": True, **ADAM}
        found = four(LATENTS[1], tmp_path, n=ranks, **given)
        assert {ended for _, ended, _ in found} == {"end"}
    for weights, _, _ in found:
        assert_states_close(weights, whole)
    whole, *_ = train(0, LATENTS[0], **ADAM)
    train(0, LATENTS[0], tmp_path / "alone", steps=3, **ADAM)
    for weights, ended, _ in four(LATENTS[0], tmp_path / "alone", resume=True, accumulate=2, **ADAM):
        assert ended == "end"
        assert_states_close(weights, whole)


def layout(rank):
    """The placements of the weights, and this process's number of their values."""
    data, model = built(LATENTS[0])
    for step in rk.loop(model, data, steps=1, batch=32, device="cpu", strategy=HSDP, progress=False):
        weight = max(filter(sharded_tensors.is_sharded, model.parameters()), key=lambda w: w.numel())
        held = sharded_tensors.local_shard(weight).numel() / weight.numel()
        found = (weight.device_mesh.mesh.tolist(), [str(p) for p in weight.placements], held)
        step.backward(step.model(step.batch).total)
        step.update()
    return found


def refused(rank):
    data, model = built(LATENTS[0])
    try:
        for _ in rk.loop(model, data, steps=1, batch=32, device="cpu", strategy="hsdp(shards=3)"):
            pass
    except TrainingError as error:
        message = str(error)
    for step in rk.loop(model, data, steps=1, batch=32, device="cpu", progress=False):  # nothing is left open
        step.backward(step.model(step.batch).total)
        step.update()
    return message


@pytest.mark.ranks
@pytest.mark.slow
def test_every_machine_holds_a_model():
    for mesh, placements, held in together(4, layout):
        assert mesh == [
            [0, 1],
            [2, 3],
        ]  # neighbors share a model, as torchrun numbers the processes of a machine
        assert placements == ["R", "S(0)"]
        assert held == 0.5
    for message in together(4, refused):
        assert message == (
            "strategy='hsdp(shards=3)': 4 processes do not divide into groups of 3; use strategy='fsdp', or shards= one of 2"
        )


def test_shards_are_the_processes_of_a_machine(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert strategy_from("hsdp").shards_of(32) == 8
    assert strategy_from("hsdp(shards=16)").shards_of(32) == 16
    assert strategy_from("fsdp").shards_of(32) == 32
    assert [Strategy(name).shards_of(1) for name in ("ddp", "fsdp", "hsdp")] == [1, 1, 1]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(TrainingError, match="with 1 processes on this machine would shard nothing"):
        strategy_from("hsdp").shards_of(4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hsdp(shards=1)", "shards=1 must be an integer, at least 2"),
        ("hsdp(shards=True)", "shards=True must be an integer"),
        ("hsdp(size=4)", "the only option is 'shards'"),
        ("fsdp(shards=4)", "the only option is 'shards'"),
        ("hsdp(", "must be 'ddp', 'fsdp', 'hsdp', 'tp' or"),
        ("hdsp", "Did you mean 'hsdp'"),
    ],
)
def test_other_strategies_are_refused(text, said):
    with pytest.raises(PartArgumentError, match=said):
        strategy_from(text)
