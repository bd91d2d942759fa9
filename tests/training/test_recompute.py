"""Activation checkpointing: the same run, with fewer activations stored for the backward pass."""

import copy

import pytest
import torch
from loop_helpers import equal, make, weights
from test_fsdp import train as train_on_rank
from torch.autograd.graph import saved_tensors_hooks

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.testing.pool import together
from reprkit.training.recompute import RecomputedBlocks

VIT = {
    "encoder": "vit(patch=2, width=16, depth=3, heads=2)",
    "decoder": "vit(patch=2, width=16, depth=2, heads=2)",
}
OPTIONS = {"steps": 4, "batch": 16, "lr": 1e-2, "device": "cpu", "progress": False}


def train(digits, parts=VIT, objective="reconstruction", latent="gaussian(dim=3)", **options):
    """Train; return the model, and the most bytes that a forward stores for the backward pass."""
    model = make(digits, latent, objective=objective, **parts)
    stored = []
    for step in rk.loop(model, digits, **OPTIONS, **options):
        sizes = []
        with saved_tensors_hooks(
            lambda tensor, s=sizes: s.append(tensor.nbytes) or tensor, lambda tensor: tensor
        ):
            losses = step.model(step.batch)
        stored.append(sum(sizes))
        step.backward(losses.total)
        step.update()
    return model, max(stored)


@pytest.mark.parametrize(
    "parts",
    [
        VIT,
        pytest.param(
            {"encoder": "conv(width=8, blocks=2)", "decoder": "conv(width=8, blocks=2)"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_weights_are_equal_and_fewer_activations_are_stored(parts, digits):
    plain, most = train(digits, parts)
    again, fewer = train(digits, parts, recompute=True)
    assert equal(weights(again), weights(plain))
    assert fewer < most / 2
    assert [type(module) for module in again.modules()] == [type(module) for module in plain.modules()]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"accumulate": 2}, {"precision": "bf16"}, {"ema": 0.9, "clip": 0.1}])
def test_dropout_and_options_of_the_loop(options, digits):
    lines = rk.dataset(torch.arange(64 * 6).reshape(64, 6) % 7)
    parts = {"encoder": "transformer(width=16, depth=2, heads=2, dropout=0.3)"}
    parts["decoder"] = "transformer(width=16, depth=2, heads=2, dropout=0.3)"
    found = [train(lines, parts, recompute=recompute, **options)[0] for recompute in (False, True)]
    assert equal(*map(weights, found))


def test_a_copy_of_a_model_in_training_calls_its_own_weights(digits):
    model = make(digits, **VIT)
    blocks = RecomputedBlocks(model)
    other = copy.deepcopy(model).train()
    batch = digits.batch(range(8))
    torch.manual_seed(0)
    before = model.train()(batch).total
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    torch.manual_seed(0)
    assert torch.equal(model(batch).total, before)
    torch.manual_seed(0)
    assert not torch.equal(other(batch).total, before)
    other(batch).total.backward()
    assert all(weight.grad is None for weight in model.parameters())
    assert len(blocks.blocks) == 5


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ({}, {}, r"these have none \(MLPEncoder, MLPDecoder\): leave it out"),
        (VIT, {"compile": True}, "torch.compile chooses itself"),
        ({**VIT, "objective": "contractive"}, {}, "needs a second derivative"),
        (
            {**VIT, "decoder": None, "objective": "contrastive(views='gaussian-noise')"},
            {"accumulate": 2},
            "joins pieces whose examples are compared",
        ),
    ],
)
def test_what_cannot_be_recomputed_is_refused(model, options, said, digits):
    with pytest.raises(TrainingError, match=said):
        next(iter(rk.loop(make(digits, **model), digits, **OPTIONS, **options, recompute=True)))


def recomputed(rank, strategy):
    return train_on_rank(rank, "continuous(dim=4)", strategy=strategy, recompute=True)


@pytest.mark.ranks
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ranks_recompute_as_one_process(strategy):
    alone = train_on_rank(0, "continuous(dim=4)")[0]
    for found, ended, _ in together(2, recomputed, strategy, timeout=250):
        assert ended == "end"
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
