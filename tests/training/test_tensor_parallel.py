"""Tensor parallelism: processes that each compute some heads and hidden units train, save and resume as one process does."""

import copy

import pytest
import torch
from loop_helpers import assert_states_close
from test_fsdp import LATENTS, built, train

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.layers.attention import Blocks
from reprkit.runs.reader import read_metrics
from reprkit.testing.pool import together
from reprkit.utils import collectives, sharded_tensors

TP = "tp(shards=2)"
ADAM = {"optimizer": "adamw(eps=1e-2)", "lr": 1e-3}
VIT = "vit(patch=4, width=16, depth=2, heads=2)"
PARTS = {
    "masked": {"encoder": VIT, "decoder": "vit(patch=4, width=16, depth=2, heads=4)", "objective": "masked"},
    "two views": {"encoder": VIT, "decoder": "conv(width=8)", "objective": "denoising + 0.1 * contrastive"},
    "dropout": {"encoder": VIT.replace(")", ", dropout=0.3)"), "decoder": "mlp(widths=(17,))"},
}


def with_options(rank, args, options):
    return train(rank, *args, **{"strategy": TP, **options})


def on(n, *args, **options):
    return together(n, with_options, args, options, timeout=250)


@pytest.mark.ranks
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("latent", [LATENTS[1], LATENTS[2]])
def test_a_divided_model_trains_as_one_process(latent, ranks, tmp_path):
    alone, _, errors = train(0, latent, tmp_path / "one", action="save")
    for weights, ended, seen in on(ranks, latent, tmp_path / "many", action="save"):
        assert ended == "end"
        assert_states_close(weights, alone)
        # Of each block: weight and bias of the queries, keys and values and of the first matrix, and the weights after them.
        assert seen[0] == 2 * 6
        assert seen[1:] == pytest.approx(errors[1:], rel=1e-5)
    for one, many in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "many"), strict=True):
        assert one["loss"] == pytest.approx(many["loss"], rel=1e-5)
        assert one["metrics"]["gradient_norm"] == pytest.approx(many["metrics"]["gradient_norm"], rel=1e-5)
        assert one["metrics"]["usage"] == pytest.approx(many["metrics"]["usage"])
    midway = rk.load(tmp_path / "many" / "midway").state_dict()
    assert_states_close(midway, rk.load(tmp_path / "one" / "midway").state_dict())


@pytest.mark.ranks
@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_other_objectives(name):
    given = {"parts": PARTS[name], "steps": 4, **ADAM}
    alone, ended, _ = train(0, "continuous(dim=4)", **given)
    assert ended == "end"
    for weights, ended, _ in on(4, "continuous(dim=4)", **given):
        assert ended == "end"
        assert_states_close(weights, alone)


@pytest.mark.ranks
@pytest.mark.slow
@pytest.mark.parametrize("how", [{"accumulate": 2}, {"recompute": True}, {"precision": "bf16"}])
def test_with_other_options(how):
    given = {"steps": 3, **how}
    alone, *_ = train(0, LATENTS[0], **given)
    for weights, ended, _ in on(4, LATENTS[0], **given):
        assert ended == "end"
        assert_states_close(weights, alone, 2e-3 if "precision" in how else 1e-6)


@pytest.mark.ranks
@pytest.mark.slow
@pytest.mark.parametrize("saving", ["gathered", "sharded"])
def test_states_resume_under_other_strategies(saving, tmp_path):
    whole, *_ = train(0, LATENTS[1], **ADAM)
    on(2, LATENTS[1], tmp_path, steps=2, saving=saving, **ADAM)
    for ranks, strategy, steps in ((2, "fsdp", 3), (4, TP, 4), (2, "ddp", 5), (2, "tp", 6)):
        given = {"steps": steps, "strategy": strategy, "saving": saving, "resume": True, **ADAM}
        found = on(ranks, LATENTS[1], tmp_path, **given)
        assert {ended for _, ended, _ in found} == {"end"}
    for weights, _, _ in found:
        assert_states_close(weights, whole)


def layout(rank):
    """What a process holds and is given, and the ranks after the loop."""
    data, model = built(LATENTS[0])
    qkv = model.factors["code"].encoder.blocks.blocks[0].attention.qkv.weight.detach().clone()
    loop = rk.loop(model, data, steps=1, batch=32, device="cpu", strategy=TP, progress=False)
    for step in loop:
        held = model.factors["code"].encoder.blocks.blocks[0].attention.qkv._parameters["weight"]
        first = sharded_tensors.local_shard(held.detach()).clone()
        share = step._train_state.engine.shards.share
        assert f"({share:.0%} of the weights divided over 2 processes)" in loop._title()
        copied = copy.deepcopy(model)  # as fine-tuning makes one
        assert torch.equal(copied.encode(step.batch).z, model.encode(step.batch).z)
        found = (collectives.rank(), collectives.world_size(), float(step.batch["x"].sum()))
        step.backward(step.model(step.batch).total)
        step.update()
    return qkv, first, share, found, (collectives.rank(), collectives.world_size())


@pytest.mark.ranks
@pytest.mark.slow
def test_processes_of_a_model_hold_heads_and_get_the_same_examples():
    found = together(4, layout)
    examples = [given for *_, given, _ in found]
    assert [given[:2] for given in examples] == [(0, 2), (0, 2), (1, 2), (1, 2)]
    assert examples[0] == examples[1] != examples[2] == examples[3]
    for rank, (qkv, held, share, _, after) in enumerate(found):
        mine = slice(8 * (rank % 2), 8 * (rank % 2) + 8)  # one of two heads: of queries, keys and values each
        assert torch.equal(held, torch.cat([part[mine] for part in qkv.chunk(3)]))
        assert 0.5 < share < 1
        assert after == (rank, 4)


def refused(rank):
    messages = []
    for parts, options in (
        ({"encoder": "vit(patch=4, width=15, depth=1, heads=3)"}, {}),
        ({"encoder": "mlp(widths=(16,))"}, {}),
        ({}, {"compile": True}),
    ):
        data, model = built(LATENTS[0], **parts)
        try:
            for _ in rk.loop(model, data, steps=1, batch=32, device="cpu", strategy=TP, **options):
                pass
        except TrainingError as error:
            messages.append(str(error))
        assert collectives.world_size() == 2
        assert not any(map(sharded_tensors.is_sharded, model.parameters()))
    return messages


@pytest.mark.ranks
@pytest.mark.slow
def test_what_cannot_be_divided_is_refused():
    for heads, blocks, compiled in together(2, refused):
        assert heads.startswith(
            "strategy='tp': 3 heads of factors.code.encoder.blocks.blocks.0.attention do not divide over 2"
        )
        assert "encoders and decoders have none" in blocks
        assert "use compile=False" in compiled


def test_caches_hold_the_heads_of_this_process():
    blocks = Blocks(16, depth=1, heads=4)
    assert blocks.caches(2, 5)[0].shape == (1, 2, 4, 5, 4)
    blocks.blocks[0].attention.heads = 2
    assert blocks.caches(2, 5)[0].shape == (1, 2, 2, 5, 4)
