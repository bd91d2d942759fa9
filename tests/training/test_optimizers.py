"""Optimizers: which weights they hold, and Muon for matrices with AdamW for all other weights."""

import pytest
import torch
from loop_helpers import equal, make, run, weights

import reprkit as rk
from reprkit.errors import BuildError, PartArgumentError
from reprkit.training.muon import orthogonalize
from reprkit.training.optimizers import create_optimizer


def test_an_optimizer_of_another_model_is_refused(digits):
    model = make(digits)
    before = weights(model)
    with pytest.raises(
        BuildError, match=r"optimizer of turn 'main' \(Adam, .* holds none of the model's trainable weights"
    ):
        run(model, digits, optimizer=torch.optim.Adam(make(digits).parameters()))
    assert equal(before, weights(model))


def test_weights_that_no_optimizer_holds_are_named(digits, recwarn):
    model = make(digits)
    rest = [p for name, p in model.named_parameters() if not name.startswith("decoder")]
    count = len(list(model.decoder.parameters()))
    with pytest.warns(
        UserWarning, match=rf"no optimizer holds {count} of the model's .*: decoder\.head.*; if that"
    ):
        run(model, digits, optimizer=torch.optim.Adam(rest))
    recwarn.clear()
    frozen = make(digits)
    kept = [p for name, p in frozen.named_parameters() if not name.startswith("decoder")]
    run(frozen, digits, optimizer=torch.optim.Adam(kept), freeze="decoder")
    run(make(digits), digits)
    assert not recwarn.list


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_matrices_are_updated_as_by_torch_s_muon(shape):
    torch.manual_seed(0)
    one, other = (torch.nn.Parameter(torch.zeros(shape)) for _ in range(2))
    mine = create_optimizer("muon(momentum=0.9)", [one], lr=0.1, weight_decay=0.1)
    theirs = torch.optim.Muon([other], lr=0.1, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        one.grad = torch.randn(shape)
        other.grad = one.grad.clone()
        mine.step()
        theirs.step()
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)
    assert float(one.detach().abs().max()) > 0.05


def test_all_other_weights_are_updated_as_by_adamw():
    shapes = [(3,), (2, 3, 4), (2, 2, 3, 3), ()]
    torch.manual_seed(0)
    mine, theirs = ([torch.nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    one = create_optimizer("muon", mine, lr=0.1, weight_decay=0.1)
    other = create_optimizer("adamw", theirs, lr=0.1, weight_decay=0.1)
    for _ in range(3):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        one.step()
        other.step()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_orthogonalized_singular_values_are_near_one():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(16, 8), steps=5).float())
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3


def test_muon_trains_and_resumes_exactly(digits, tmp_path):
    whole = make(digits)
    losses = run(whole, digits, optimizer="muon", lr=1e-2, weight_decay=0.05, schedule="linear")
    assert losses[-1] < 0.95 * losses[0]
    stopped, resumed = make(digits), make(digits)
    options = {
        "optimizer": "muon",
        "lr": 1e-2,
        "weight_decay": 0.05,
        "schedule": "linear",
        "steps": 12,
        "batch": 32,
    }
    for step in rk.loop(stopped, digits, out=tmp_path, save_every=1e-9, **options):
        step.backward(step.model(step.batch).total)
        step.update()
        if step.index == 6:
            break
    run(resumed, digits, out=tmp_path, resume=True, **options)
    assert equal(weights(whole), weights(resumed))


def test_muon_s_arguments_are_checked(digits):
    for text in ("muon(momentum=1.5)", "muon(ns_steps=0)", "muon(momentun=0.9)"):
        with pytest.raises(PartArgumentError, match="muon"):
            create_optimizer(text, make(digits).parameters(), lr=0.1)
