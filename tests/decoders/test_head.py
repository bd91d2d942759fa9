"""The likelihood head: choice of the likelihood, errors, and calibration of the scale."""

import math

import pytest
import torch
from torch import nn

from reprkit.data.signature import Field
from reprkit.decoders.head import Head
from reprkit.errors import PartArgumentError
from reprkit.likelihoods.location_scale import FLOOR

REAL = Field(kind="vector", shape=(3,))
GRAY = Field(kind="image", shape=(4, 4, 1), range=(0, 1))
BITS = Field(kind="vector", shape=(3,), range=(0, 1), vocab=2)
TEXT = Field(kind="tokens", shape=(None,), vocab=7)
LOUD = Field(kind="sequence", shape=(None, 2), range=(-300, 300))


@pytest.mark.parametrize(
    ("field", "name", "found"),
    [
        (REAL, None, "gaussian"),
        (GRAY, None, "gaussian"),
        (BITS, None, "bernoulli"),
        (TEXT, None, "categorical"),
        (GRAY, "bernoulli", "bernoulli"),
        (GRAY, "laplace", "laplace"),
        (GRAY, "logistic-mixture(levels=16)", "logistic-mixture"),
        (BITS, "gaussian", "gaussian"),
    ],
)
def test_the_likelihood_is_the_data_s_own_or_the_chosen_one(field, name, found):
    decoded = Head(6, 3, field=field, likelihood=name)(torch.randn(2, 5, 6))
    assert decoded.likelihood.qualified == f"reprkit/{found}"
    assert decoded.x.shape == (2, 5, 3)
    assert decoded.x.dtype == (torch.int64 if found == "categorical" else torch.float32)
    if found == "categorical":
        assert decoded.params["logits"].shape == (2, 5, 3, 7)
    if found == "bernoulli":
        assert decoded.x.min() >= 0
        assert decoded.x.max() <= 1


@pytest.mark.parametrize(
    ("field", "options", "word"),
    [
        (REAL, {"likelihood": "categorical"}, "real values"),
        (TEXT, {"likelihood": "gaussian"}, "use categorical"),
        (TEXT, {"likelihood": "bernoulli"}, "use categorical"),
        (REAL, {"likelihood": "bernoulli"}, "not stated"),
        (LOUD, {"likelihood": "bernoulli"}, r"-300, 300"),
        (BITS, {"scale": "each"}, "bernoulli"),
    ],
)
def test_invalid_arguments_raise(field, options, word):
    with pytest.raises(PartArgumentError, match=word):
        Head(6, 3, field=field, **options)


def test_a_fixed_scale_of_one_is_half_the_squared_error():
    x, target = torch.randn(2, 5, 6), torch.randn(2, 5, 3)
    decoded = Head(6, 3, field=GRAY, scale=1.0)(x)
    expected = 0.5 * (target - decoded.x).square().sum(-1) + 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(decoded.nll(target), expected)


def test_scales_start_at_half_the_range_and_stay_above_the_floor():
    for scale, shape in (("shared", (1, 1, 1)), ("each", (2, 5, 3))):
        head = Head(6, 3, field=LOUD, scale=scale)
        found = head(torch.randn(2, 5, 6)).params["log_scale"]
        assert found.shape == shape
        torch.testing.assert_close(found, torch.full(shape, math.log(300.0)))
        weight = head.raw_scale if scale == "shared" else head.log_scale.bias
        with torch.no_grad():
            weight.fill_(-1e4)
        least = head(torch.randn(2, 5, 6)).params["log_scale"]
        assert float(least.detach().min()) >= FLOOR + math.log(300.0) - 1e-5
    assert Head(6, 3, field=REAL)(torch.randn(1, 1, 6)).params["log_scale"].item() == pytest.approx(
        0, abs=1e-6
    )


def test_the_shared_scale_learns_the_error_of_the_mean():
    torch.manual_seed(0)
    x, target = torch.zeros(64, 1, 6), torch.randn(64, 1, 3) * 0.05
    head = Head(6, 3, field=REAL)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        head(x).nll(target).mean().backward()
        optimizer.step()
    with torch.no_grad():
        decoded = head(x)
    error = (target - decoded.x).square().mean().sqrt()
    assert decoded.params["log_scale"].item() == pytest.approx(float(error.log()), abs=0.02)


def test_the_units_of_the_data_only_shift_the_likelihood():
    """Data 300 times as large: the same picture, and log 300 nats more for each value."""
    unit, loud = (
        Field(kind="vector", shape=(3,), range=(-1, 1)),
        Field(kind="vector", shape=(3,), range=(-300, 300)),
    )
    for scale in ("shared", "each"):
        small, large = Head(6, 3, field=unit, scale=scale), Head(6, 3, field=loud, scale=scale)
        large.load_state_dict(small.state_dict())
        x, target = torch.randn(2, 5, 6), torch.rand(2, 5, 3)
        torch.testing.assert_close(large(x).x, small(x).x * 300)
        torch.testing.assert_close(
            large(x).nll(target * 300), small(x).nll(target) + 3 * math.log(300), rtol=1e-5, atol=1e-4
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": "each"},
        {"scale": 0.5},
        {"likelihood": "bernoulli"},
        {"likelihood": "laplace"},
        {"likelihood": "logistic-mixture"},
    ],
)
def test_every_parameter_has_a_gradient_and_a_shape_that_can_be_sharded(options):
    head = Head(6, 3, field=GRAY, **options)
    head(torch.randn(2, 5, 6)).nll(torch.rand(2, 5, 3)).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.ndim >= 1, name


def test_real_values_are_predicted_in_full_precision_under_autocast():
    head = Head(6, 3, field=GRAY)
    x = torch.randn(2, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = head(nn.Identity()(x.bfloat16()))
    assert inside.x.dtype == torch.float32
    torch.testing.assert_close(inside.x, head(x.bfloat16().float()).x)
