"""The claim itself: any latent fits any encoder and decoder.  The product is taken from the registry, so a new part joins."""

import functools
import itertools
import warnings

import pytest
import torch

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError
from reprkit.plugins import default_registry

# Small arguments where the defaults are larger than a test needs; a part without an entry is tried with its defaults.
SMALL = {
    "encoder": {
        "mlp": "mlp(widths=(32,))",
        "conv": "conv(width=16)",
        "vit": "vit(width=16, depth=1, heads=2)",
        "gru": "gru(width=16)",
        "transformer": "transformer(width=16, depth=1, heads=2)",
        "convnext": "convnext(width=16, depth=1)",
        "d-vector": "d-vector(width=16)",
        "instance-norm": "instance-norm(width=16, depth=1, stride=2)",
        "neck": "neck(dim=4, width=16, depth=1, stride=2)",
        "voice": "voice(width=16, depth=1)",
        "bert": "bert(width=16, depth=1, heads=2)",
        "bart": "bart(width=16, depth=1, heads=2)",
        "t5": "t5(width=16, depth=1, heads=2)",
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
        "lstm": "lstm(width=16)",
        "transformer": "transformer(width=16, depth=1, heads=2)",
        "adain": "adain(width=16, depth=1, stride=2)",
        "conv-lstm": "conv-lstm(width=16, memory=16, stride=2)",
        "bert": "bert(width=16)",
        "bart": "bart(width=16, depth=1, heads=2)",
        "t5": "t5(width=16, depth=1, heads=2)",
        "pointer": "pointer(width=16)",
    },
}
# A part that takes one kind of data only is tried on that: real digits as images, their rows as frames, their greys as symbols.
WORLDS = ("images", "frames", "symbols")
# What it makes is longer than what is read: it is tried where it is at home.
ELSEWHERE = {("decoder", "istft")}


def names(kind: str) -> list[str]:
    specs = [spec.name for spec in default_registry().specs(kind) if (kind, spec.name) not in ELSEWHERE]
    return [SMALL[kind].get(name, name) for name in specs]


@functools.cache
def world(name: str):
    """A data set and a batch of it."""
    data = rk.dataset("digits")
    batch = data.batch(list(range(6)))
    if name == "frames":
        signature = Signature({"x": Field(kind="sequence", shape=(8, 8), range=(0.0, 1.0))})
        data = Tensors({"x": batch["x"].squeeze(-1)}, signature)
        batch = data.batch(list(range(6)))
    if name == "symbols":
        signature = Signature({"x": Field(kind="tokens", shape=(16,), vocab=5)})
        greys = (4 * batch["x"][:, ::2, ::2, 0]).round().long().flatten(1)
        data = Tensors({"x": greys}, signature)
        batch = data.batch(list(range(6)))
    return data, batch


@functools.cache
def fits(kind: str, reference: str, name: str) -> bool:
    """Whether a part takes the data; else it says so."""
    try:
        rk.create(kind, reference, data=world(name)[0].signature, tokens=1)
    except BuildError:
        return False
    return True


def fitting(kind: str, name: str) -> list[str]:
    return [each for each in names(kind) if fits(kind, each, name)]


def objective_for(decoder: str, name: str) -> str:
    """A causal decoder is trained with its teacher, so that every weight takes part."""
    part = rk.create("decoder", decoder, data=world(name)[0].signature, tokens=1)
    return "autoregressive" if "causal" in part.provides else "reconstruction"


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_every_part_is_tried_somewhere(kind):
    assert {each for name in WORLDS for each in fitting(kind, name)} == set(names(kind))


@pytest.mark.parametrize(
    ("name", "decoder"), [(name, each) for name in WORLDS for each in fitting("decoder", name)]
)
def test_any_latent_fits_any_encoder_and_decoder(name, decoder):
    data, batch = world(name)
    objective = objective_for(decoder, name)
    for encoder, latent in itertools.product(fitting("encoder", name), names("latent")):
        model = rk.build(data=data, encoder=encoder, latent=latent, decoder=decoder, objective=objective)
        what = f"{encoder} → {latent} → {decoder}"
        losses = model(batch)
        losses.total.backward()
        model.update()
        assert torch.isfinite(losses.total), what
        assert 0 <= losses.metrics["usage"] <= 1, what
        idle = [weight for weight, value in model.named_parameters() if value.grad is None]
        assert not idle, f"{what}: no gradient reaches {idle}"
        moved = [value.grad.abs().sum() for value in model.factors["code"].encoder.parameters()]
        assert sum(moved) > 0, f"{what}: the encoder learns nothing"


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("latent", names("latent"))
def test_codes_survive_their_indices_and_the_disk(latent, name, tmp_path):
    data, batch = world(name)
    for encoder, decoder in zip(fitting("encoder", name), itertools.cycle(fitting("decoder", name))):
        objective = objective_for(decoder, name)
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
