"""Objective "across": the numbers of the loss of CLIP, written independently, and the temperature."""

import math

import pytest
import torch
from learning import digits

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError
from reprkit.testing import ObjectiveConformance


class TestAcrossFixedTemperature(ObjectiveConformance):
    part = "across(dim=4, temperature=0.5, learned=False)"


def halves():
    """The digits' upper and lower halves as two fields."""
    x = digits()[0].batch(range(600))["x"]
    fields = {name: Field(kind="image", shape=(4, 8, 1), range=(0.0, 1.0)) for name in ("x", "low")}
    return Tensors({"x": x[:, :4].clone(), "low": x[:, 4:].clone()}, Signature(fields))


FACTORS = {
    "up": rk.factor("mlp(width=32)", "continuous(dim=16)"),
    "low": rk.factor("mlp(width=32)", "continuous(dim=16)", input="low"),
}


def clip_loss(image, text, scale):
    """The loss of open_clip's ``ClipLoss`` (one process), written from its formula."""
    image, text = image / image.norm(dim=1, keepdim=True), text / text.norm(dim=1, keepdim=True)
    per_image = scale * image @ text.t()
    chosen = torch.arange(len(image))
    rows = -torch.log_softmax(per_image, 1)[chosen, chosen].mean()
    columns = -torch.log_softmax(per_image.t(), 1)[chosen, chosen].mean()
    return (rows + columns) / 2


def test_the_loss_is_clips():
    data = halves()
    model = rk.build(data=data, factors=FACTORS, objective="across(dim=8)")
    batch = data.batch(range(12))
    losses = model(batch)
    codes = model.encode(batch)
    image = codes["up"].z[:, 0] @ model.objective.maps["up"].weight.T
    text = codes["low"].z[:, 0] @ model.objective.maps["low"].weight.T
    scale = model.objective.log_scale.exp()
    assert float(scale) == pytest.approx(1 / 0.07)
    expected = clip_loss(image, text, scale)
    torch.testing.assert_close(losses.total, expected.squeeze())
    parameters = [model.objective.log_scale, model.factors["up"].adapter.weight]
    own = torch.autograd.grad(losses.total, parameters)
    for one, other in zip(own, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(one, other)


def test_three_factors_are_the_mean_over_pairs():
    data = halves()
    factors = {**FACTORS, "whole": rk.factor("mlp(width=8)", "continuous(dim=4)")}
    model = rk.build(data=data, factors=factors, objective="across(dim=8)")
    batch = data.batch(range(9))
    vectors = {name: model.joint_vectors(batch, name) for name in factors}
    scale = model.objective.log_scale.exp()
    pairs = [("up", "low"), ("up", "whole"), ("low", "whole")]
    expected = sum(clip_loss(vectors[one], vectors[two], scale) for one, two in pairs) / 3
    torch.testing.assert_close(model(batch).total, expected.squeeze())


def test_the_temperature_stays_in_its_range():
    model = rk.build(data=halves(), factors=FACTORS, objective="across")
    for value, kept in ((9.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)):
        with torch.no_grad():
            model.objective.log_scale.fill_(value)
        model.update()
        assert float(model.objective.log_scale) == pytest.approx(kept)


def test_matching_halves_are_found():
    data = halves()
    model = rk.build(data=data, factors=FACTORS, objective="across(dim=16)")
    for step in rk.loop(model, data, steps=60, batch=64, lr=3e-3, log_every=0):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
    assert float(losses.metrics["accuracy"]) > 0.2  # one of 64 by chance


def test_a_saved_model_compares_as_before(tmp_path):
    data = halves()
    model = rk.build(data=data, factors=FACTORS, objective="across(dim=4)").eval()
    model.save(tmp_path)
    batch = data.batch(range(5))
    with torch.no_grad():
        expected = model(batch).total
        torch.testing.assert_close(rk.load(tmp_path)(batch).total, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("across(factors=('up', 'down'))", "no factor named 'down'"),
        ("across(factors=('up', 'up'))", "contrasts the codes of two factors, and the model has up, up"),
    ],
)
def test_unusable_factors_are_refused(objective, message):
    with pytest.raises(BuildError, match=message):
        rk.build(data=halves(), factors=FACTORS, objective=objective)
