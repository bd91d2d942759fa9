"""Parts without a layer of their own: the linear autoencoder, and one whose decoder has the encoder's weights."""

import copy
import json

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from torch import nn

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError, PartArgumentError
from reprkit.layers.transposed import TransposedLinear
from reprkit.types import Features

VECTORS = Signature({"x": Field(kind="vector", shape=(6,))})
PATCHES = Signature({"x": Field(kind="image", shape=(4, 6, 2))})


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits")


def learn(model, batch, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model(batch).total.backward()
        optimizer.step()
        schedule.step()


def test_the_flat_parts_are_affine_maps_of_the_flattened_example(digits):
    """Against x W^T + b by hand, with the pixels rescaled to [-1, 1]."""
    model = rk.build(data=digits, encoder="flat", latent="continuous(dim=3)", decoder="flat(scale=1.0)")
    x = digits.batch(range(4))["x"]
    first, second = model.factors["code"].adapter, model.adapters["code"]
    z = (2 * x.flatten(1) - 1) @ first.weight.T + first.bias
    codes = model.encode({"x": x})
    torch.testing.assert_close(codes.z, z.unsqueeze(1))
    out = ((z @ second.weight.T + second.bias) + 1) / 2
    torch.testing.assert_close(model.decode(codes).x, out.unsqueeze(1))
    names = {name for name, _ in model.named_parameters()}
    assert names == {
        f"{p}.{w}" for p in ("factors.code.adapter", "adapters.code") for w in ("weight", "bias")
    }


def test_symbols_are_one_hot():
    data = Signature({"x": Field(kind="tokens", shape=(2,), vocab=3)})
    encoder = rk.create("encoder", "flat", data=data)
    x = encoder({"x": torch.tensor([[2, 0]])}).x
    assert x.tolist() == [[[0, 0, 1, 0, 1, 0, 0, 0]]]  # the fourth symbol is the mask
    decoder = rk.create("decoder", "flat", data=data, tokens=1)
    decoded = decoder(Features(x=torch.tensor([[[0.0, 1, 2, 5, 4, 3]]])))
    assert decoded.params["logits"].tolist() == [[[[0, 1, 2], [5, 4, 3]]]]
    assert decoded.x.tolist() == [[[2, 0]]]


def test_tokens_on_a_grid_are_patches_and_others_are_concatenated():
    decoder = rk.create("decoder", "flat(scale=1.0)", data=PATCHES, tokens=6)
    x = torch.randn(2, 6, decoder.in_dim)
    assert decoder.in_dim == 8
    patches = decoder(Features(x=x, grid=(2, 3)))
    assert patches.grid == (2, 3)
    assert torch.equal(patches.x, x)
    whole = decoder(Features(x=x, grid=(6,)))
    assert whole.grid == (1, 1)
    assert torch.equal(whole.x, x.view(2, 1, 48))
    seven = rk.create("decoder", "flat(scale=1.0)", data=PATCHES, tokens=7)
    made = seven(Features(x=torch.randn(2, 7, seven.in_dim)))
    assert made.x.shape == (2, 1, 48)


def test_the_mirror_transposes_every_map_and_repeats_the_functions(digits):
    """Against the formula, with biases that are not zero."""
    model = rk.build(
        data=digits,
        encoder="mlp(widths=(12, 5), activation='tanh', dropout=0.5)",
        latent="continuous(dim=3)",
        decoder="mirror(scale=1.0)",
    ).eval()
    with torch.no_grad():
        for value in model.decoder.parameters():
            value.add_(0.1 * torch.randn_like(value))
    layers = [layer for layer in model.factors["code"].encoder.layers if isinstance(layer, nn.Linear)]
    weights = [layer.weight for layer in (*layers, model.factors["code"].adapter)]
    biases = [layer.bias for layer in model.decoder.modules() if isinstance(layer, TransposedLinear)]
    z = torch.randn(4, 1, 3)
    hidden = torch.tanh(z @ weights[2] + biases[0])
    hidden = torch.tanh(hidden @ weights[1] + biases[1])
    expected = ((hidden @ weights[0] + biases[2]) + 1) / 2
    torch.testing.assert_close(model.decode({"code": rk.Code(z=z)}).x, expected)
    assert model.decoder.layers[0].weight is weights[2]
    assert model.decoder.in_dim == 3


def test_the_tied_linear_autoencoder_finds_the_principal_components(digits):
    dim = 3
    x = digits.batch(range(300))["x"].double()
    data = Tensors({"x": x.float()}, Signature({"x": digits.signature["x"]}))
    model = rk.build(
        data=data, encoder="flat", latent=f"continuous(dim={dim})", decoder="mirror(scale=1.0)"
    ).double()
    learn(model, {"x": x}, steps=400, lr=0.05)
    pca = PCA(dim).fit(x.flatten(1).numpy())
    rows = model.factors["code"].adapter.weight.detach().numpy()
    assert subspace_angles(rows.T, pca.components_.T).max() < 1e-3
    np.testing.assert_allclose(rows @ rows.T, np.eye(dim), atol=1e-3)
    restored = model.decode(model.encode({"x": x})).x.detach().squeeze(1).numpy()
    np.testing.assert_allclose(
        restored, pca.inverse_transform(pca.transform(x.flatten(1).numpy())), atol=1e-3
    )


def test_the_tie_holds_after_loading_and_through_more_training(digits, tmp_path):
    model = rk.build(data=digits, encoder="mlp(widths=(8,))", latent="continuous(dim=3)", decoder="mirror")
    for step in rk.loop(model, digits, steps=2, batch=32):
        step.backward(step.model(step.batch).total)
        step.update()
    loaded = rk.load(model.save(tmp_path / "model"))
    batch = digits.batch(range(8))
    torch.testing.assert_close(loaded.score(batch).nats, model.eval().score(batch).nats, rtol=0, atol=0)
    for each in (model, loaded, copy.deepcopy(model)):
        first = next(layer for layer in each.factors["code"].encoder.layers if isinstance(layer, nn.Linear))
        assert each.decoder.head.linear.weight is first.weight
        assert each.decoder.layers[0].weight is each.factors["code"].adapter.weight
    for step in rk.loop(loaded, digits, steps=2, batch=32):
        step.backward(step.model(step.batch).total)
        step.update()
    assert loaded.decoder.layers[0].weight is loaded.factors["code"].adapter.weight


def test_a_tied_weight_is_counted_and_stored_once(digits, tmp_path):
    from reprkit.checkpoints.reader import read
    from reprkit.reporting.describe_model import describe_model

    model = rk.build(data=digits, encoder="flat", latent="continuous(dim=3)", decoder="mirror(scale=1.0)")
    described = describe_model(model, digits)
    assert described["parameters"] == 3 * 64 + 3 + 64
    assert sum(part["parameters"] for part in described["parts"].values()) == described["parameters"]
    stored = read(model.save(tmp_path / "model"))
    assert stored.elements() == described["parameters"]
    assert stored.width("factors.code.adapter", 1) == 64
    json.dumps(described)


def test_a_mirror_given_to_another_model_lets_go_of_the_former(digits):
    decoder = rk.create("decoder", "mirror", data=digits.signature)
    one, two = (rk.build(data=digits, encoder="flat", decoder=decoder, seed=seed) for seed in (0, 1))
    assert decoder.head.linear.weight is two.factors["code"].adapter.weight
    assert decoder.head.linear.weight is not one.factors["code"].adapter.weight


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"encoder": "conv(width=8)"}, "does not consist of these: use encoder flat or mlp"),
        ({"encoder": "mlp(norm='layer')"}, r"cannot reverse LayerNorm .*norm='none'"),
        ({"latent": "gaussian(dim=4)"}, "makes 4 of 8: use decoder flat or mlp"),
        (
            {"encoder": None, "factors": {"a": rk.factor("flat"), "b": rk.factor("flat")}},
            "mirrors one encoder, and reads 2 factors: a, b",
        ),
    ],
)
def test_what_cannot_be_mirrored_is_refused(digits, parts, message):
    with pytest.raises(BuildError, match=message):
        rk.build(**{"data": digits, "encoder": "flat", "decoder": "mirror", **parts})


def test_another_output_field_is_refused():
    data = Signature({"x": VECTORS["x"], "y": VECTORS["x"]})
    with pytest.raises(BuildError, match="field 'x', and the output is 'y'"):
        rk.build(data=data, encoder="flat", decoder="mirror", output="y")


def test_a_scale_for_each_element_would_need_a_layer():
    for name in ("flat", "mirror"):
        with pytest.raises(PartArgumentError, match="'shared' or a number above 0"):
            rk.create("decoder", f"{name}(scale='each')", data=VECTORS, tokens=1)
