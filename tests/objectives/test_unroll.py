"""``unroll``: the autoencoder computes what the machines compute, one after another."""

import pytest
import torch
from learning import digits

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError
from reprkit.objectives.unroll import unroll
from reprkit.testing.sample_data import VECTORS

REAL = Signature({"x": Field(kind="vector", shape=(6,), range=(-2.0, 4.0))})
DEEP = {
    "encoder": "mlp(widths=(9, 5), activation='sigmoid')",
    "latent": "continuous(dim=2)",
    "decoder": "mlp(widths=(5, 9), activation='sigmoid', likelihood='bernoulli')",
}


def units(count):
    field = Field(kind="vector", shape=(count,), range=(0.0, 1.0))
    return Tensors({"x": torch.rand(8, count)}, Signature({"x": field}))


def machine(data, size, hidden="bernoulli", encoder="flat"):
    """A machine with random weights and biases."""
    latent = f"continuous(dim={size}, activation='{'sigmoid' if hidden == 'bernoulli' else 'identity'}')"
    model = rk.build(data=data, encoder=encoder, latent=latent, objective=f"rbm(hidden={hidden!r})").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def stack(data, encoder="flat"):
    return [machine(data, 9, encoder=encoder), machine(units(9), 5), machine(units(5), 2, "gaussian")]


def upwards(model, x):
    """What the hidden units of a machine are given its visible ones, by its own encoder."""
    return model.encode({"x": x}).z[:, 0]


def downwards(model, h):
    """The mean of the visible units given hidden ones, by the definition of the energy; rescaled data is read as 2 v - 1."""
    factor = 1 if "rescale=False" in str(model.factors["code"].encoder.reference) else 2
    return torch.sigmoid(model.objective.bias + factor * h @ model.factors["code"].adapter.weight)


@pytest.mark.parametrize("encoder", ["flat", "flat(rescale=False)"])
@torch.no_grad()
def test_the_autoencoder_computes_what_the_machines_compute(tmp_path, encoder):
    data = digits()[0]
    machines, model = stack(data, encoder), rk.build(data=data, **DEEP).eval()
    unroll(machines, model)
    x = data.batch(range(6))["x"]
    expected = x
    for each in machines:
        expected = upwards(each, expected)
    torch.testing.assert_close(model.encode({"x": x}).z[:, 0], expected)
    for each in machines[::-1]:
        expected = downwards(each, expected)
    torch.testing.assert_close(model.decode(model.encode({"x": x})).x.flatten(1), expected)
    weights = [parameter.data_ptr() for each in (model, *machines) for parameter in each.parameters()]
    assert len(set(weights)) == len(weights)  # copies
    loaded = rk.load(model.save(tmp_path)).eval()
    assert torch.equal(loaded.encode({"x": x}).z, model.encode({"x": x}).z)


@torch.no_grad()
def test_gaussian_visible_units():
    decoder = "mlp(widths=(9,), activation='sigmoid')"
    model = rk.build(
        data=REAL,
        encoder="mlp(widths=(9,), activation='sigmoid')",
        latent="continuous(dim=2)",
        decoder=decoder,
    )
    first, second = machine(REAL, 9), machine(units(9), 2, "gaussian")
    unroll([first, second], model.eval())
    z = torch.randn(3, 2)
    h = downwards(second, z)
    expected = 1 + 3 * (first.objective.bias + h @ first.factors["code"].adapter.weight)
    torch.testing.assert_close(model.decode(z).x.flatten(1), expected)


def test_fewer_machines_leave_the_layers_at_the_code():
    data = digits()[0]
    model = rk.build(data=data, **DEEP)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    unroll(stack(data)[:1], model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {
        "factors.code.encoder.layers.0.weight", "factors.code.encoder.layers.0.bias", "decoder.head.linear.weight",
        "decoder.head.linear.bias",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"encoder": "conv(width=4, depth=1)"}, None, "the encoder has Conv2d"),
        ({"decoder": "flat(likelihood='bernoulli')"}, None, "decoder FlatDecoder has no stack of linear maps: use mlp"),
        ({"encoder": "mlp(widths=(9, 5))"}, None, "the encoder has GELU"),
        ({"encoder": "mlp(widths=(9,), activation='sigmoid')"}, None, "the encoder has 2 linear maps and the decoder 3"),
        ({"latent": "continuous(dim=3)"}, None, "machine 3 has 5 visible and 2 hidden units, and layer 3 of the encoder is 5 to 3"),
        ({"decoder": "mlp(widths=(5, 9), activation='sigmoid')"}, None, "units of machine 1 are binary"),
        ({}, lambda machines: machines * 2, "6 machines for an encoder of 3 layers"),
        ({}, lambda machines: machines[:0], "0 machines for an encoder of 3 layers"),
        ({}, lambda machines: [*machines[:1], machine(units(9), 5, "gaussian")], "which only the code may have"),
        ({}, lambda _: [rk.build(data=digits()[0], **DEEP)], "has objective reprkit/reconstruction, and must have rbm"),
        ({}, lambda _: [machine(VECTORS, 9)], "learned field 'x' with range"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_copied(options, change, message):
    data = digits()[0]
    machines = stack(data)
    model = rk.build(data=data, **DEEP | options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(BuildError, match=message):
        unroll(machines if change is None else change(machines), model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
