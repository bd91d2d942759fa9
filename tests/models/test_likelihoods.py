"""Likelihoods against torch.distributions."""

import math

import pytest
import torch
from torch import distributions

from reprkit.errors import PartArgumentError
from reprkit.models.likelihoods import (
    apply_temperature,
    draw,
    filter_top_k_top_p,
    mode,
    negative_log_likelihood,
)


def params_of(name, seed=0, shape=(3, 4, 5), symbols=6):
    torch.manual_seed(seed)
    if name == "gaussian":
        return {"mean": torch.randn(shape), "log_scale": torch.randn(shape) * 0.7}
    if name == "bernoulli":
        return {"logits": torch.randn(shape) * 3}
    return {"logits": torch.randn(*shape, symbols) * 2}


def reference(name, params):
    if name == "gaussian":
        return distributions.Normal(params["mean"], params["log_scale"].exp())
    cls = distributions.Bernoulli if name == "bernoulli" else distributions.Categorical
    return cls(logits=params["logits"])


NAMES = ("gaussian", "bernoulli", "categorical")


@pytest.mark.parametrize("name", NAMES)
def test_nll_equals_torch(name):
    params = params_of(name)
    target = reference(name, params).sample()
    expected = -reference(name, params).log_prob(target)
    found = negative_log_likelihood(name, params, target)
    assert found.shape == (3, 4, 5)
    torch.testing.assert_close(found, expected)


def test_one_scale_is_broadcast():
    params = {"mean": torch.randn(2, 3, 4), "log_scale": torch.full((1, 1, 1), -1.3)}
    target = torch.randn(2, 3, 4)
    expected = -distributions.Normal(params["mean"], math.exp(-1.3)).log_prob(target)
    torch.testing.assert_close(negative_log_likelihood("gaussian", params, target), expected)
    assert draw("gaussian", params).shape == (2, 3, 4)


def test_gray_values_give_the_cross_entropy():
    logits, target = torch.randn(2, 1, 3), torch.rand(2, 1, 3)
    chance = torch.sigmoid(logits)
    expected = -(target * chance.log() + (1 - target) * (1 - chance).log())
    torch.testing.assert_close(negative_log_likelihood("bernoulli", {"logits": logits}, target), expected)


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_extreme_logits_stay_finite(name):
    logits = torch.tensor([[[500.0, -500.0]]])
    target = torch.tensor([[[0.0, 1.0]]])
    if name == "categorical":
        logits, target = logits.unsqueeze(2), torch.tensor([[[1]]])
    logits.requires_grad_()
    found = negative_log_likelihood(name, {"logits": logits}, target)
    found.sum().backward()
    assert found.min() >= 500
    assert found.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_full(name):
    params = params_of(name)
    target = reference(name, params).sample()
    low = {key: value.bfloat16() for key, value in params.items()}
    found = negative_log_likelihood(name, low, target)
    assert found.dtype == torch.float32
    same = negative_log_likelihood(name, {key: value.float() for key, value in low.items()}, target)
    torch.testing.assert_close(found, same)
    assert draw(name, low).dtype == (torch.int64 if name == "categorical" else torch.float32)


def test_draws_follow_the_distribution():
    many = (20_000, 1, 1)
    values = draw(
        "gaussian", {"mean": torch.full(many, 2.0), "log_scale": torch.full((1, 1, 1), math.log(0.5))}
    )
    assert abs(float(values.mean()) - 2) < 0.02
    assert abs(float(values.std()) - 0.5) < 0.02
    ones = draw("bernoulli", {"logits": torch.full(many, math.log(0.3 / 0.7))})
    assert set(ones.unique().tolist()) == {0.0, 1.0}
    assert abs(float(ones.mean()) - 0.3) < 0.02
    chances = torch.tensor([0.1, 0.2, 0.7])
    symbols = draw("categorical", {"logits": chances.log().expand(*many, 3)})
    assert symbols.shape == many
    assert symbols.dtype == torch.int64
    shares = symbols.flatten().bincount(minlength=3) / many[0]
    torch.testing.assert_close(shares, chances, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_equal_generators_give_equal_draws(name):
    params = params_of(name)
    one, two = (draw(name, params, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, draw(name, params, torch.Generator().manual_seed(4)))


@pytest.mark.parametrize("name", NAMES)
def test_temperature_zero_draws_the_mode(name):
    params = params_of(name)
    best = mode(name, params)
    if name == "bernoulli":
        best = (best > 0.5).float()
    for _ in range(3):
        assert torch.equal(draw(name, apply_temperature(name, params, 0)), best)


@pytest.mark.parametrize("name", NAMES)
def test_temperature_one_changes_nothing(name):
    params = params_of(name)
    for key, value in apply_temperature(name, params, 1).items():
        torch.testing.assert_close(value, params[key])


def test_temperature_scales():
    assert float(
        apply_temperature("gaussian", params_of("gaussian"), 0.5)["log_scale"][0, 0, 0]
    ) == pytest.approx(float(params_of("gaussian")["log_scale"][0, 0, 0]) + math.log(0.5))
    torch.testing.assert_close(
        apply_temperature("categorical", params_of("categorical"), 0.5)["logits"],
        params_of("categorical")["logits"] * 2,
    )


@pytest.mark.parametrize("temperature", [-1, float("nan"), float("inf")])
def test_invalid_temperatures_raise(temperature):
    with pytest.raises(PartArgumentError, match="temperature"):
        apply_temperature("gaussian", params_of("gaussian"), temperature)


def test_an_unknown_name_raises_with_the_nearest():
    for call in (
        lambda: negative_log_likelihood("gausian", {}, torch.zeros(1)),
        lambda: draw("gausian", {}),
        lambda: apply_temperature("gausian", {}, 1),
        lambda: mode("gausian", {}),
    ):
        with pytest.raises(PartArgumentError, match="Did you mean 'gaussian'"):
            call()


def test_top_k_and_top_p_keep_the_most_likely_in_proportion():
    logits = torch.tensor([[[[0.1, 0.4, 0.2, 0.3], [0.97, 0.01, 0.01, 0.01]]]]).log()

    def left(**options):
        return torch.softmax(filter_top_k_top_p("categorical", {"logits": logits}, **options)["logits"], -1)[
            0, 0
        ]

    torch.testing.assert_close(left(top_k=2), torch.tensor([[0, 4 / 7, 0, 3 / 7], [97 / 98, 1 / 98, 0, 0]]))
    torch.testing.assert_close(left(top_p=0.75), torch.tensor([[0, 4 / 9, 2 / 9, 3 / 9], [1.0, 0, 0, 0]]))
    torch.testing.assert_close(left(top_p=1e-9), torch.tensor([[0, 1.0, 0, 0], [1.0, 0, 0, 0]]))
    torch.testing.assert_close(left(top_k=3, top_p=0.5), torch.tensor([[0, 4 / 7, 0, 3 / 7], [1.0, 0, 0, 0]]))
    torch.testing.assert_close(left(top_k=9, top_p=1.0), torch.softmax(logits, -1)[0, 0])
    assert filter_top_k_top_p("gaussian", {"mean": logits}) == {"mean": logits}


@pytest.mark.parametrize("options", [{"top_k": True}, {"top_k": -2}, {"top_p": "most"}, {"top_p": math.nan}])
def test_invalid_top_k_and_top_p_raise(options):
    with pytest.raises(PartArgumentError, match="must be"):
        filter_top_k_top_p("categorical", {"logits": torch.zeros(1, 1, 1, 3)}, **options)
    with pytest.raises(PartArgumentError, match="gaussian"):
        filter_top_k_top_p("gaussian", {"mean": torch.zeros(1)}, top_k=2)
