import pytest
import torch

import reprkit as rk
from reprkit.testing.sample_data import SAMPLE_DATA, random_batch
from reprkit.testing.small import small_references

LATENTS = small_references("latent")


@pytest.mark.parametrize("latent", LATENTS)
def test_every_latent_trains_saves_and_samples_in_float64(latent, tmp_path):
    data = rk.dataset("digits").split(0)[0]
    model = rk.build(data=data, encoder="conv(width=8)", latent=latent, decoder="conv(width=8)")
    for step in rk.loop(model, data, steps=2, batch=16, precision="fp64", progress=False):
        losses = step.model(step.batch)
        assert losses.total.dtype == torch.float64
        step.backward(losses.total)
        step.update()
    model.save(tmp_path)
    loaded, batch = rk.load(tmp_path), data.batch(range(3))
    assert batch["x"].dtype == torch.float32
    with torch.no_grad():
        codes, again = model.encode(batch), loaded.encode(batch)
        assert codes.z.dtype == loaded.dtype == torch.float64
        assert torch.equal(codes.z, again.z)
        assert model.decode(codes).x.dtype == torch.float64
        if model.latent().has_prior:
            assert model.sample(2).x.dtype == torch.float64
        if codes.indices is not None:
            assert torch.equal(loaded.decompress(model.compress(batch)).z, codes.z)
    assert rk.evaluate(model, data.subset(range(16)), "reconstruction")["reconstruction"]["error"] >= 0


@pytest.mark.parametrize(
    ("kind", "encoder", "decoder"),
    [
        ("images", "vit(width=16, heads=2, depth=1, patch=4)", "vit(width=16, heads=2, depth=1, patch=4)"),
        ("sequences", "gru(width=8)", "gru(width=8)"),
        ("sequences", "transformer(width=16, heads=2, depth=1)", "transformer(width=16, heads=2, depth=1)"),
        ("tokens", "gru(width=8)", "lstm(width=8)"),
        ("vectors", "mlp(widths=(8,))", "mlp(widths=(8,))"),
    ],
)
def test_every_kind_of_part_computes_in_float64(kind, encoder, decoder):
    data = SAMPLE_DATA[kind]
    model = rk.build(data=data, encoder=encoder, latent="gaussian(dim=3)", decoder=decoder).double()
    losses = model(random_batch(data, 4))
    losses.total.backward()
    assert losses.total.dtype == torch.float64
    assert all(p.grad is None or p.grad.dtype == torch.float64 for p in model.parameters())


def test_fp32_after_fp64_trains_in_float32():
    data = rk.dataset("digits").split(0)[0]
    model = rk.build(data=data, encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))")
    for precision, dtype in (("fp64", torch.float64), ("fp32", torch.float32)):
        rk.fit(model, data, steps=1, batch=8, precision=precision, progress=False)
        assert model.dtype == dtype
