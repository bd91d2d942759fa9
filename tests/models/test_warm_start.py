"""Warm start from a model of an earlier stage: whole parts are copied, or nothing."""

import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError
from reprkit.models.warm_start import warm_start

PARTS = {"encoder": "mlp(widths=(16,))", "latent": "vq(codes=8, dim=3)", "decoder": "mlp(widths=(16,))"}


def built(objective="reconstruction", seed=0, **options):
    return rk.build(data="digits", objective=objective, seed=seed, **{**PARTS, **options})


def parts(model):
    state = model.state_dict()
    return {name: value.clone() for name, value in state.items() if not name.startswith("objective.")}


def test_everything_but_the_objective_is_copied():
    first = built(seed=1)
    batch = rk.dataset("digits").batch(range(8))
    first.train()(batch)  # codebook statistics move, too
    last = built("reconstruction + 0.1 * contrastive", start=first)
    fresh = built("reconstruction + 0.1 * contrastive")
    found, expected = parts(last), parts(first)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert not all(torch.equal(value, expected[name]) for name, value in parts(fresh).items())
    heads = [each.objective.state_dict() for each in (last, fresh)]
    assert len(heads[0]) > 0
    assert all(torch.equal(value, heads[1][name]) for name, value in heads[0].items())
    with torch.no_grad():
        next(first.decoder.parameters()).add_(1)
    assert all(torch.equal(found[name], value) for name, value in parts(last).items()), "copied, not shared"


def test_a_stage_may_have_fewer_factors_and_no_decoder():
    def factors(*names):
        return {name: rk.factor("mlp(widths=(16,))", "continuous(dim=3)") for name in names}

    alone = rk.build(data="digits", factors=factors("style"), objective="contrastive", seed=1)
    both = rk.build(data="digits", factors=factors("content", "style"), decoder="mlp", start=alone)
    fresh = rk.build(data="digits", factors=factors("content", "style"), decoder="mlp")
    style = {name: value for name, value in parts(alone).items() if name.startswith("factors.style")}
    for name, value in parts(both).items():
        assert torch.equal(value, style.get(name, fresh.state_dict()[name]))
    again = rk.build(data="digits", factors=factors("style"), objective="contrastive", start=both)
    assert all(torch.equal(value, style[name]) for name, value in parts(again).items())


def test_a_part_of_another_shape_raises_and_nothing_is_copied():
    model, first = built(), built(seed=1, decoder="mlp(widths=(17,))")
    before = parts(model)
    with pytest.raises(BuildError, match=r"its decoder does not fit .* \(64, 17\) there, \(64, 16\) here"):
        warm_start(model, first)
    assert all(torch.equal(before[name], value) for name, value in parts(model).items())


def test_models_without_common_parts_raise():
    first = rk.build(data="digits", encoder="mlp", objective="contrastive")
    other = {"content": rk.factor("mlp", "continuous(dim=3)")}
    with pytest.raises(BuildError, match="factor 'code', this model's factor 'content'"):
        rk.build(data="digits", factors=other, objective="contrastive", start=first)
