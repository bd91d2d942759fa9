"""OneHot as it comes learns classes of real digits without labels, in a net of any kind."""

import pytest
import torch

import reprkit as rk


def fitted(encoder, decoder, latent, steps):
    train, test = rk.dataset("digits").split(seed=1)
    model = rk.build(data=train, encoder=encoder, latent=latent, decoder=decoder, seed=1)
    model = rk.fit(
        model, train, steps=steps, batch=128, lr=2e-3, schedule="cosine", seed=1, progress=False
    ).model
    found = rk.evaluate(model, test, "reconstruction", "codebook", examples=0)
    x = train.batch(torch.arange(len(train)))["x"]
    mean_image = float((x - x.mean(0)).square().flatten(1).sum(1).mean())
    return found["reconstruction"]["error"] / mean_image, found["codebook"]["usage"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "decoder", "latent", "error"),
    [
        ("mlp(widths=(256, 128))", "mlp(widths=(128, 256))", "one-hot(classes=64)", 0.7),
        ("mlp(widths=(128,), norm='layer')", "mlp(widths=(128,))", "one-hot(classes=32)", 0.75),
        ("conv(width=8, depth=1, blocks=0)", "conv(width=8, depth=1, blocks=0)", "one-hot", 0.7),
    ],
)
def test_the_defaults_do_not_collapse(encoder, decoder, latent, error):
    found, usage = fitted(encoder, decoder, latent, 250)
    assert usage > 0.5
    assert found < error
