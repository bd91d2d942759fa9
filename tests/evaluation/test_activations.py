"""Activations of an encoder's layers against a forward pass by hand."""

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.evaluation import activations
from reprkit.models.factor import masked_mean


def test_each_layer_of_an_mlp():
    data = rk.dataset({"x": torch.randn(300, 5)})
    parts = {"encoder": "mlp(widths=(8, 6))", "latent": "gaussian(dim=2)", "decoder": "mlp(widths=(8,))"}
    model = rk.build(data=data, **parts)
    found = activations(model, data)
    assert model.training
    encoder = model.factors["code"].encoder
    names = [f"layers.{number}" for number in range(len(encoder.layers))]
    assert list(found) == [*names, "features", "code"]
    with torch.no_grad():
        x = encoder.rescale(data.batch(range(300))["x"]) if hasattr(encoder, "rescale") else None
        features = encoder(data.batch(range(300))).x[:, 0]
        code = model.eval().encode(data.batch(range(300))).z[:, 0]
    np.testing.assert_allclose(found["features"], features, atol=1e-6)
    np.testing.assert_allclose(found[names[-1]], features, atol=1e-6)
    np.testing.assert_allclose(found["code"], code, atol=1e-6)
    if x is not None:
        np.testing.assert_allclose(found["layers.0"], encoder.layers[0](x).detach(), atol=1e-5)
    assert found["layers.0"].shape == (300, 8)


def test_padding_and_maps_are_averaged_out():
    fields = {"x": Field(kind="sequence", shape=(None, 3))}
    x, mask = torch.randn(4, 6, 3), torch.arange(6) < torch.tensor([[6], [4], [2], [1]])
    data = rk.data.Tensors({"x": x * mask.unsqueeze(-1), "x_mask": mask}, Signature(fields))
    model = rk.build(
        data=data,
        encoder="transformer(width=8, depth=2, heads=2)",
        decoder="gru(width=4)",
        objective="autoregressive",
    )
    found = activations(model, data)
    blocks = [name for name in found if "blocks" in name]
    assert len(blocks) >= 2
    with torch.no_grad():
        features = model.eval().factors["code"].encoder(data.batch(range(4)))
    np.testing.assert_allclose(found["features"], masked_mean(features.x, features.mask), atol=1e-5)
    images = rk.dataset({"x": torch.rand(6, 8, 8, 1)})
    model = rk.build(data=images, encoder="conv(width=8, depth=1)", decoder="conv(width=8, depth=1)")
    found = activations(model, images)
    assert all(value.shape[0] == 6 and value.ndim == 2 for value in found.values())
    assert any(name.startswith("layers.") for name in found)


def test_a_layer_that_is_not_called_is_an_error():
    data = rk.dataset({"x": torch.randn(6, 5)})
    model = rk.build(data=data, encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))")
    encoder = model.factors["code"].encoder
    encoder.named_layers = lambda: {"spare": torch.nn.Linear(2, 2)}
    with pytest.raises(BuildError, match="did not call its layer 'spare'"):
        activations(model, data)
    with pytest.raises(BuildError, match="no factor named 'voice'"):
        activations(model, data, "voice")
