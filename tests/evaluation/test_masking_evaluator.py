import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError, PartArgumentError
from reprkit.models.grid import from_tokens, to_tokens

VIT = "vit(patch=2, width=16, depth=1, heads=2)"


def built(train, objective="masked(ratio=0.5)", latent="continuous(dim=8)"):
    return rk.build(data=train, encoder=VIT, latent=latent, decoder=VIT, objective=objective).eval()


@pytest.mark.parametrize("normalize", [False, True])
def test_the_error_is_of_the_hidden_part_in_the_data_s_units(normalize, digits):
    train, test = digits
    model = built(train, f"masked(ratio=0.5, normalize={normalize})")
    results = rk.evaluate(model, test, "masking(examples=4)", examples=0)
    batch = test.batch(range(100))
    keep, hidden = model.objective.draw(batch, model.factors["code"], fixed=True)
    target = to_tokens(batch["x"], (4, 4), "image")
    with torch.no_grad():
        x = model.decode(model.encode(batch, keep=keep)).x
    if normalize:
        x = x * (target.var(-1, keepdim=True) + 1e-6).sqrt() + target.mean(-1, keepdim=True)
    squares = (x - target).square() * hidden.unsqueeze(-1)
    assert results["masking"]["error"] == pytest.approx(float(squares.sum() / 100), rel=1e-5)
    assert results["masking"]["mse"] == pytest.approx(float(squares.sum() / hidden.sum() / 4), rel=1e-5)
    assert results["masking"]["ratio"] == 0.5
    rows = results.figures["masking"]["masked"].rows
    shape = test.signature["x"]
    shown = from_tokens(
        torch.where(hidden.unsqueeze(-1), torch.full_like(target, 0.5), target), (4, 4), shape
    )
    filled = from_tokens(torch.where(hidden.unsqueeze(-1), x, target), (4, 4), shape)
    assert np.array_equal(rows["shown"], shown[:4].numpy())
    assert np.allclose(rows["predicted"], filled[:4].numpy(), atol=1e-5)
    assert np.array_equal(rows["original"], batch["x"][:4].numpy())


@pytest.mark.slow
def test_training_lowers_the_error_also_with_a_latent(digits):
    train, test = digits
    model = rk.build(
        data=train, encoder=VIT, latent="vq(codes=16, dim=4)", decoder=VIT, objective="masked(ratio=0.5)"
    )
    before = rk.evaluate(model.eval(), test, "masking", examples=0)["masking"]["mse"]
    rk.fit(model, train, steps=60, batch=64, lr=5e-3, progress=False)
    assert rk.evaluate(model, test, "masking", examples=0)["masking"]["mse"] < 0.5 * before


def test_an_encoder_without_keep_reads_blanked_elements(digits):
    train, test = digits
    model = rk.build(data=train, encoder="mlp(widths=(16,))", decoder="mlp(widths=(16,))").eval()
    found = rk.evaluate(model, test, "masking(ratio=0.3)", examples=0)["masking"]
    assert found["ratio"] == 0.3
    clean = rk.evaluate(model, test, "reconstruction", examples=0)["reconstruction"]
    assert found["error"] != clean["error"]
    nothing = torch.zeros(100, 8, 8, 1)
    hit = rk.create("corruption", "mask-elements(ratio=0.3)", data=train.signature)(
        test.batch(range(100)), torch.Generator().manual_seed(0)
    )[1]
    with torch.no_grad():
        batch = {**test.batch(range(100)), "x": torch.where(hit, nothing, test.batch(range(100))["x"])}
        made = model.to_batch(model.decode(model.encode(batch)))["x"]
    squares = (made - test.batch(range(100))["x"]).square() * hit
    assert found["error"] == pytest.approx(float(squares.sum() / 100), rel=1e-5)


def test_symbols_have_an_accuracy(reader):
    x = torch.randint(0, 4, (20, 6), generator=torch.Generator().manual_seed(0))
    data = rk.data.Tensors({"x": x}, rk.Signature({"x": rk.Field(kind="tokens", shape=(6,), vocab=4)}))
    part = "transformer(width=16, depth=1, heads=2)"
    model = rk.build(data=data, encoder=part, decoder=part, objective="masked(ratio=0.5)").eval()
    results = rk.evaluate(model, data, "masking", examples=0)
    assert 0 <= results["masking"]["accuracy"] <= 1
    assert (results.figures["masking"]["masked"].rows["shown"][0].count(4)) == 3  # the mask symbol


def test_models_that_masking_does_not_support_are_refused(digits):
    train, test = digits
    causal = rk.build(data=train, decoder="gru(width=8)", objective="autoregressive")
    with pytest.raises(BuildError, match="causal"):
        rk.evaluate(causal, test, "masking")
    for wrong in ("ratio=0.0", "ratio=1.0", "examples=-1"):
        with pytest.raises(PartArgumentError, match="^evaluator masking: .* must be"):
            rk.create("evaluator", f"masking({wrong})")
