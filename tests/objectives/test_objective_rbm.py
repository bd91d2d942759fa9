"""Objective "rbm": energies and gradients equal to those of a tiny machine whose states are all enumerated."""

import itertools

import pytest
import torch
from learning import digits

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError
from reprkit.testing import ObjectiveConformance
from reprkit.testing.sample_data import VECTORS


class TestGaussian(ObjectiveConformance):
    part = "rbm(k=2)"
    data = VECTORS


class TestLinearCode(ObjectiveConformance):
    part = "rbm(hidden='gaussian')"


def tiny(visible="bernoulli", *, encoder="flat", hidden="bernoulli", k=1, count=4, rows=1, scale=1.0):
    """A machine of three hidden units and ``count`` visible ones, with random weights, and data."""
    span = (0.0, 1.0) if visible == "bernoulli" else (-2.0, 4.0)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, count, generator=generator).round() * (span[1] - span[0]) + span[0]
    data = Tensors({"x": x}, Signature({"x": Field(kind="vector", shape=(count,), range=span)}))
    objective = f"rbm(k={k}, visible={visible!r}, hidden={hidden!r})"
    model = rk.build(data=data, encoder=encoder, latent="continuous(dim=3)", objective=objective)
    with torch.no_grad():
        for value in (
            model.factors["code"].adapter.weight,
            model.factors["code"].adapter.bias,
            model.objective.bias,
        ):
            value.copy_(scale * torch.randn(value.shape, generator=generator))
    return model, data


def states(count):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=count)))


def energy(model, v, h):
    """E(v, h) of all pairs: (v h); v of 0 and 1, or standardized."""
    weight, bias = model.factors["code"].adapter.weight, model.factors["code"].adapter.bias
    rescaled = "rescale=False" not in str(model.factors["code"].encoder.reference)
    read = (
        2 * v - 1 if model.objective.bernoulli and rescaled else v
    )  # the encoder rescales 0 to 1 to -1 to 1
    coupling = h @ (read @ weight.T + bias).T
    own = -(v @ model.objective.bias)
    if not model.objective.bernoulli:
        own = (v - model.objective.bias).square().sum(1) / 2
    return own[:, None] - coupling.T


def test_the_free_energy_sums_over_the_hidden_states():
    model, _ = tiny()
    v = states(4)
    expected = -torch.logsumexp(-energy(model, v, states(3)), 1)
    found = model.objective.free_energy(model.factors["code"], v)
    torch.testing.assert_close(found, expected)


def test_the_free_energy_of_gaussian_units():
    model, data = tiny("gaussian", rows=5)
    x = data.batch(range(5))["x"]
    expected = -torch.logsumexp(-energy(model, (x - 1) / 3, states(3)), 1)
    torch.testing.assert_close(model.objective.free_energy(model.factors["code"], x), expected)


def test_the_free_energy_integrates_over_real_hidden_units():
    model, _ = tiny(hidden="gaussian", scale=0.7)
    v, side = states(4), torch.linspace(-9, 9, 61)
    h = torch.cartesian_prod(side, side, side)
    total = energy(model, v, h) + h.square().sum(1) / 2
    volume = (
        torch.tensor((18 / 60) / (2 * torch.pi) ** 0.5).log() * 3
    )  # the constant of the free energy is left out
    found = model.objective.free_energy(model.factors["code"], v)
    torch.testing.assert_close(found, -torch.logsumexp(-total, 1) - volume, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"hidden": "gaussian"}, {"encoder": "flat(rescale=False)"}], ids=lambda each: str(each)
)
def test_a_gibbs_step_leaves_the_distribution_unchanged(options):
    model, _ = tiny(scale=0.7, **options)
    v = states(4)
    probability = torch.softmax(-model.objective.free_energy(model.factors["code"], v), 0)
    torch.manual_seed(0)
    drawn = v[torch.multinomial(probability, 40_000, replacement=True)]
    with torch.no_grad():
        after, _ = model.objective.gibbs_step(model.factors["code"], drawn)
    number = (after * torch.tensor([8.0, 4, 2, 1])).sum(1).long()
    shares = torch.bincount(number, minlength=16) / len(number)
    torch.testing.assert_close(shares, probability.detach(), atol=0.01, rtol=0)


def test_long_chains_give_the_exact_gradient():
    """The gradient of -log p(data), with the partition function summed over all states."""
    model, data = tiny(k=60, rows=5, scale=0.5)
    x = data.batch(range(5))["x"]
    parameters = [*model.factors["code"].adapter.parameters(), model.objective.bias]
    free = model.objective.free_energy
    partition = torch.logsumexp(-free(model.factors["code"], states(4)), 0)
    exact = torch.autograd.grad((free(model.factors["code"], x) + partition).mean(), parameters)
    torch.manual_seed(0)
    found = torch.autograd.grad(model({"x": x.repeat(4000, 1)}).total, parameters)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0)


def test_gaussian_steps_have_their_conditional_mean():
    model, data = tiny("gaussian", rows=3)
    weight = model.factors["code"].adapter.weight
    with torch.no_grad():
        model.factors["code"].adapter.bias.fill_(50.0)  # every hidden unit is on
        x, mean = model.objective.gibbs_step(model.factors["code"], data.batch(range(3))["x"])
    expected = 1 + 3 * (model.objective.bias + weight.sum(0))
    torch.testing.assert_close(mean, expected.expand(3, 4))
    assert x.shape == (3, 4)


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_the_maps_are_those_of_data_in_its_own_units(visible):
    model, data = tiny(visible, rows=5)
    rbm, factor, x = model.objective, model.factors["code"], data.batch(range(5))["x"]
    weight, bias = rbm.hidden_map(factor)
    torch.testing.assert_close(x @ weight.T + bias, rbm.hidden_inputs(factor, x))
    back, own = rbm.visible_map(factor)
    # d E / d v at v = 0, of the energy written out
    h, zero = states(3), torch.zeros(1, 4, requires_grad=True)
    for state in h:
        (slope,) = torch.autograd.grad(energy(model, zero, state[None]).sum(), zero)
        torch.testing.assert_close(-slope[0], back @ state + own)


def test_the_first_biases_are_those_of_the_data_s_means():
    model, data = tiny(rows=50)
    model.objective.fit_bias(model, data)
    mean = data.batch(range(50))["x"].mean(0)
    torch.testing.assert_close(torch.sigmoid(model.objective.bias.detach()), mean)
    model, data = tiny("gaussian", rows=50)
    model.objective.fit_bias(model, data)
    mean = data.batch(range(50))["x"].mean(0)
    torch.testing.assert_close(1 + 3 * model.objective.bias.detach(), mean)


def test_it_learns_the_digits(tmp_path):
    data = digits()[0]
    model = rk.build(
        data=data, encoder="flat", latent="continuous(dim=32, activation='sigmoid')", objective="rbm"
    )
    errors = []
    for step in rk.loop(model, data, steps=80, batch=64, lr=1e-2, log_every=0):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        errors.append(float(losses.metrics["error"]))
    assert sum(errors[-10:]) < 0.7 * sum(errors[:10])
    model.eval().save(tmp_path)
    batch = data.batch(range(6))
    with torch.no_grad():
        torch.testing.assert_close(rk.load(tmp_path)(batch).total, model(batch).total, rtol=0, atol=0)
        assert float(model.encode(batch).z.min()) >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "mlp"}, "has layers of its own: use encoder flat"),
        ({"objective": "rbm(visible='bernoulli')", "data": VECTORS}, "needs data from 0 to 1"),
        ({"objective": "rbm(hidden='gaussian')", "data": VECTORS}, "those of field 'x' are Gaussian, too"),
    ],
)
def test_unusable_models_are_refused(options, message):
    with pytest.raises(BuildError, match=message):
        rk.build(**{"data": digits()[0], "encoder": "flat", "objective": "rbm", **options})
