"""The claim itself: any latent fits any encoder and decoder.  The product is taken from the registry, so a new part joins."""

import itertools
import warnings

import pytest
import torch

import reprkit as rk
from reprkit.plugins import default_registry

# Small arguments where the defaults are larger than a test needs; a part without an entry is tried with its defaults.
SMALL = {
    "encoder": {
        "mlp": "mlp(widths=(32,))",
        "conv": "conv(width=16)",
        "vit": "vit(width=16, depth=1, heads=2)",
        "gru": "gru(width=16)",
        "transformer": "transformer(width=16, depth=1, heads=2)",
    },
    "latent": {
        "continuous": "continuous(dim=3)",
        "gaussian": "gaussian(dim=3)",
        "binary": "binary(bits=5)",
        "one-hot": "one-hot(classes=4, groups=2)",
        "vq": "vq(codes=6, dim=3, codebooks=2)",
        "residual-vq": "residual-vq(codes=6, layers=2, dim=3)",
        "text": "text(vocab=9, width=8, length=5)",
    },
    "decoder": {
        "mlp": "mlp(widths=(32,))",
        "conv": "conv(width=16)",
        "vit": "vit(width=16, depth=1, heads=2)",
        "gru": "gru(width=16)",
        "transformer": "transformer(width=16, depth=1, heads=2)",
    },
}


def names(kind: str) -> list[str]:
    return [SMALL[kind].get(spec.name, spec.name) for spec in default_registry().specs(kind)]


@pytest.fixture(scope="module")
def digits():
    data = rk.dataset("digits")
    return data, data.batch(list(range(6)))


def objective_for(decoder: str) -> str:
    """A causal decoder is trained with its teacher, so that every weight takes part."""
    part = rk.create("decoder", decoder, data=rk.dataset("digits").signature, tokens=1)
    return "autoregressive" if "causal" in part.provides else "reconstruction"


@pytest.mark.parametrize("decoder", names("decoder"))
def test_any_latent_fits_any_encoder_and_decoder(decoder, digits):
    data, batch = digits
    objective = objective_for(decoder)
    for encoder, latent in itertools.product(names("encoder"), names("latent")):
        model = rk.build(data=data, encoder=encoder, latent=latent, decoder=decoder, objective=objective)
        what = f"{encoder} → {latent} → {decoder}"
        losses = model(batch)
        losses.total.backward()
        model.update()
        assert torch.isfinite(losses.total), what
        assert 0 <= losses.metrics["usage"] <= 1, what
        idle = [name for name, value in model.named_parameters() if value.grad is None]
        assert not idle, f"{what}: no gradient reaches {idle}"
        moved = [value.grad.abs().sum() for value in model.factors["code"].encoder.parameters()]
        assert sum(moved) > 0, f"{what}: the encoder learns nothing"


@pytest.mark.parametrize("latent", names("latent"))
def test_codes_survive_their_indices_and_the_disk(latent, digits, tmp_path):
    data, batch = digits
    for encoder, decoder in zip(names("encoder"), names("decoder"), strict=False):
        objective = objective_for(decoder)
        model = rk.build(data=data, encoder=encoder, latent=latent, decoder=decoder, objective=objective)
        model(batch).total.backward()
        model.update()
        model.eval()
        with torch.no_grad():
            codes = model.encode(batch)
            if codes.indices is not None:
                again = model.from_indices({"code": codes.indices}, like=codes)
                torch.testing.assert_close(again.z, codes.z)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                loaded = rk.load(model.save(tmp_path / f"{encoder}-{latent}-{decoder}".replace("/", "-")))
            loaded.eval()
            assert torch.equal(loaded.encode(batch).z, codes.z)
            teacher = None if objective == "reconstruction" else model.target(batch, model.decode(codes))
            assert torch.equal(
                loaded.decode(codes, teacher=teacher).x,
                model.decode(codes, teacher=teacher).x,
            )
