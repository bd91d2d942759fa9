"""Optimizers that evaluate the loss several times a step."""

import copy

import pytest
import torch
from loop_helpers import assert_states_close, equal, lines, make, weights

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.testing.pool import together
from reprkit.training.optimizers import needs_closure

LBFGS = "lbfgs(lr=1.0, max_iter=6, line_search_fn='strong_wolfe')"
STILL = "lbfgs(lr=1e-30, max_iter=5, tolerance_change=0.0, tolerance_grad=0.0)"  # evaluates five times at equal weights


def train(model, data, seen=None, stop=None, **options):
    """Train by closures; ``seen`` collects the loss of every evaluation, by steps."""
    given = {"steps": 4, "batch": 32, "optimizer": LBFGS, "progress": False, "device": "cpu"}
    for step in rk.loop(model, data, **{**given, **options}):
        evaluations = []

        def closure(step=step, evaluations=evaluations):
            losses = step.model(step.batch)
            step.backward(losses.total)
            evaluations.append(losses.total.item())
            return losses

        first = step.update(closure=closure)
        assert first.total.item() == evaluations[0]
        if seen is not None:
            seen.append(evaluations)
        if step.index == stop:
            break
    return model


def test_lbfgs_equals_torch_on_the_same_batches(digits):
    model = make(digits, "continuous(dim=3)")
    plain = copy.deepcopy(model).train()
    order = digits.order(32, 0)
    optimizer = torch.optim.LBFGS(plain.parameters(), lr=1.0, max_iter=6, line_search_fn="strong_wolfe")
    for index in range(4):
        batch = digits.batch(order.at(index))

        def closure(batch=batch):
            optimizer.zero_grad()
            total = plain(batch).total
            total.backward()
            return total

        optimizer.step(closure)
    train(model, digits, lr=1.0)
    assert equal(dict(model.named_parameters()), dict(plain.named_parameters()))


@pytest.mark.parametrize("latent", ["gaussian(dim=3)", "one-hot(classes=8)", "vq(codes=8, dim=3)"])
def test_every_evaluation_starts_from_the_same_state(digits, latent):
    model = make(digits, latent, encoder="mlp(widths=(16,), dropout=0.3)")
    seen = []
    train(model, digits, seen, optimizer=STILL)
    for evaluations in seen:
        assert len(evaluations) >= 5
        # The first evaluation of all initializes the codebook; the others see it initialized.
        assert len(set(evaluations)) == 1
    assert len({evaluations[0] for evaluations in seen}) == 4


@pytest.mark.parametrize("latent", ["gaussian(dim=3, warmup=9)", "vq(codes=8, dim=3)", "binary(bits=4)"])
def test_only_the_first_evaluation_counts(digits, latent, tmp_path):
    several, one = make(digits, latent), make(digits, latent)
    train(several, digits, optimizer=STILL, out=tmp_path / "several", log_every=1)
    train(one, digits, optimizer="sgd(lr=1e-30)", out=tmp_path / "one", log_every=1)
    assert_states_close(dict(several.named_parameters()), dict(one.named_parameters()), 1e-20)
    assert equal(dict(several.named_buffers()), dict(one.named_buffers()))
    for mine, theirs in zip(lines(tmp_path / "several"), lines(tmp_path / "one"), strict=True):
        for line in (mine, theirs):
            del line["seconds"], line["data_wait"]
        assert mine == theirs


@pytest.mark.slow
@pytest.mark.parametrize("latent", ["gaussian(dim=3)", "vq(codes=8, dim=3)"])
def test_break_and_resume_are_bit_equal(digits, latent, tmp_path):
    whole = train(make(digits, latent), digits)
    train(make(digits, latent), digits, out=tmp_path, save_every=1e-6, stop=2)
    resumed = train(make(digits, latent), digits, out=tmp_path, resume=True)
    assert equal(weights(whole), weights(resumed))


def test_fit_takes_any_optimizer(digits):
    model = make(digits, "continuous(dim=3)")
    run = rk.fit(model, digits, steps=8, batch=128, lr=1.0, optimizer=LBFGS, log_every=1, progress=False)
    losses = [line["loss"] for line in run.metrics]
    assert losses[-1] < losses[0] - 5
    by_hand, fitted = make(digits), make(digits)
    for step in rk.loop(by_hand, digits, steps=4, batch=32, accumulate=2, progress=False):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
    rk.fit(fitted, digits, steps=4, batch=32, accumulate=2, progress=False)
    assert equal(weights(by_hand), weights(fitted))


def test_wrong_uses_are_one_sentence(digits):
    model = make(digits)
    for step in rk.loop(model, digits, steps=1, optimizer=LBFGS):
        losses = step.model(step.batch)
        step.backward(losses.total)
        with pytest.raises(
            TrainingError, match=r"LBFGS evaluates the loss several times.*step.update\(closure=...\)"
        ):
            step.update()
        with pytest.raises(TrainingError, match="did not call step.backward"):
            step.update(closure=lambda step=step: step.model(step.batch))
        break
    for options, reason in (
        ({"accumulate": 2}, "a whole step at once"),
        ({"clip": 1.0}, "clipped gradients"),
    ):
        with pytest.raises(TrainingError, match=f"LBFGS of turn 'main' cannot be used with .*{reason}"):
            next(iter(rk.loop(model, digits, steps=1, batch=32, optimizer=LBFGS, **options)))


def test_which_optimizers_need_a_closure():
    weight = [torch.nn.Parameter(torch.zeros(2))]
    assert needs_closure(torch.optim.LBFGS(weight))
    assert not needs_closure(torch.optim.AdamW(weight))


def on_ranks(rank):
    torch.set_num_threads(1)
    data = rk.dataset("digits").split()[0]
    # In float64: a line search takes other steps after other rounding.
    return weights(train(make(data, "continuous(dim=3)"), data, steps=3, precision="fp64"))


@pytest.mark.slow
@pytest.mark.ranks
def test_two_processes_take_the_steps_of_one():
    alone, (first, second) = on_ranks(0), together(2, on_ranks)
    assert_states_close(first, second, 0)
    assert_states_close(first, alone, 1e-9)
