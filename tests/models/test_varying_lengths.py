"""Sequences of varying lengths, with every decoder that supports them, also from one token for the whole example."""

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import DataError


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rk.dataset(
        {"x": [rng.normal(size=(int(rng.integers(3, 9)), 2)).astype("float32") for _ in range(24)]}
    )


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(
    "decoder", ["gru(width=8, causal=False)", "transformer(width=8, depth=1, heads=2)", "gru(width=8)"]
)
@pytest.mark.parametrize("objective", ["reconstruction", "masked(ratio=0.5)", "denoising"])
def test_an_objective_uses_every_valid_step_and_no_padding(data, pool, decoder, objective):
    factors = {"code": rk.factor("gru(width=8)", "continuous(dim=4)", pool=pool)}
    model = rk.build(data=data, factors=factors, decoder=decoder, objective=objective)
    batch = data.batch(list(range(8)))
    losses = []
    for filler in (0.0, 5.0):
        x = torch.where(batch["x_mask"].unsqueeze(-1), batch["x"], torch.tensor(filler))
        torch.manual_seed(0)
        losses.append(model({**batch, "x": x}).total)
    losses[0].backward()
    assert torch.allclose(*losses), "padding reaches the loss"
    assert all(value.grad is not None for value in model.factors.parameters())
    measured = rk.evaluate(model, data, "reconstruction", examples=0)["reconstruction"]
    assert np.isfinite(measured["nll"])


def test_any_length_accepts_sequences_longer_than_the_windows():
    frames = torch.randn(12, 5, 2)
    model = rk.build(
        data=rk.dataset({"x": frames.numpy()}),
        encoder="gru(width=8)",
        latent="continuous(dim=4)",
        objective="contrastive",
    ).eval()
    longer = {"x": torch.randn(3, 9, 2)}
    with pytest.raises(DataError, match=r"shape \(3, 9, 2\)"):
        model.encode(longer)
    code = model.encode(longer, any_length=True)["code"].z
    assert torch.equal(code, model.factors["code"](longer).z)
    assert code.shape == (3, 9, 4)
    with pytest.raises(DataError, match=r"shape \(3, 9, 3\)"):
        model.encode({"x": torch.randn(3, 9, 3)}, any_length=True)


def test_any_length_applies_to_time_only():
    fields = {
        "x": rk.Field(kind="sequence", shape=(5, 2)),
        "said": rk.Field(kind="tokens", shape=(5,), vocab=3),
        "face": rk.Field(kind="image", shape=(4, 4, 1)),
        "who": rk.Field(kind="label", shape=(), vocab=2),
    }
    shapes = {name: field.shape for name, field in rk.Signature(fields).any_length().items()}
    assert shapes == {"x": (None, 2), "said": (None,), "face": (4, 4, 1), "who": ()}
