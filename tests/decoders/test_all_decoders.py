"""The core's decoders beyond the conformance kit: codes with any number of tokens, in any order, choice of the likelihood."""

import math

import pytest
import torch

from reprkit.data.signature import Field, Signature
from reprkit.decoders.conv import ConvDecoder
from reprkit.decoders.gru import GRUDecoder
from reprkit.decoders.lstm import LSTMDecoder
from reprkit.decoders.mlp import MLPDecoder
from reprkit.decoders.transformer import TransformerDecoder
from reprkit.decoders.vit import ViTDecoder
from reprkit.errors import BuildError, PartArgumentError, UnknownPartError
from reprkit.models.grid import from_tokens, to_tokens
from reprkit.registry.create import create
from reprkit.registry.registry import Registry
from reprkit.testing.small import small_references
from reprkit.types import Features

FIELDS = {
    "digits": Field(kind="image", shape=(8, 8, 1), range=(0, 1)),
    "wide": Field(kind="image", shape=(12, 20, 3)),
    "vector": Field(kind="vector", shape=(7,)),
    "bits": Field(kind="vector", shape=(6,), range=(0, 1), vocab=2),
    "frames": Field(kind="sequence", shape=(9, 3)),
    "varying": Field(kind="sequence", shape=(None, 3), range=(-5, 5)),
    "text": Field(kind="tokens", shape=(None,), vocab=11),
    "word": Field(kind="tokens", shape=(5,), vocab=11),
    "label": Field(kind="label", shape=(), vocab=4),
}
# Decoder mirror has no maps before it is bound to a model: see test_flat_and_mirror.py.
REFERENCES = [
    *(each for each in small_references("decoder") if each != "mirror"),
    "mlp(widths=(9, 5), norm='layer', activation='tanh')",
    "conv(width=7, depth=1, blocks=0)",
    "vit(patch=4, width=15, heads=3, depth=1)",
    "gru(width=6, depth=2)",
    "gru(width=7, causal=False)",
    "lstm(width=6, depth=2)",
    "lstm(width=7, causal=False)",
    "transformer(width=15, heads=3, causal=True)",
]
LENGTH = 6


def signature(field):
    return Signature({"x": field})


def make(reference, field, tokens):
    return create("decoder", reference, data=signature(field), tokens=tokens)


def cases():
    """Every reference on every field that it supports."""
    for reference in REFERENCES:
        for name, field in FIELDS.items():
            try:
                make(reference, field, 1)
            except BuildError:
                continue
            yield pytest.param(reference, field, id=f"{reference}-{name}")


CASES = list(cases())


def batch_of(field, size=3):
    shape = (size, *(LENGTH if each is None else each for each in field.shape))
    return torch.randint(field.vocab, shape) if field.discrete else torch.rand(shape).round()


def codes_for(field):
    """Numbers of tokens that a code may have: (tokens, what build says, grid)."""
    if None in field.shape:
        return [(LENGTH, None, (LENGTH,)), (1, 1, (1,))]
    return [(1, 1, (1,)), (4, 4, (2, 2)), (5, 5, (5,)), (60, 60, (6, 10))]


def features_for(decoder, tokens, grid, size=3):
    return Features(x=torch.randn(size, tokens, decoder.in_dim, requires_grad=True), grid=grid)


@pytest.mark.parametrize(("reference", "field"), CASES)
def test_outputs_have_the_layout_of_the_data_for_any_code(reference, field):
    x = batch_of(field)
    for tokens, build_tokens, grid in codes_for(field):
        decoder = make(reference, field, build_tokens)
        features = features_for(decoder, tokens, grid)
        decoded = decoder(features, length=LENGTH if None in field.shape else None)
        target = to_tokens(x, decoded.grid, field.kind)
        assert decoded.x.shape == target.shape
        assert torch.equal(from_tokens(target, decoded.grid, field), x)
        assert from_tokens(decoded.x, decoded.grid, field).shape == x.shape
        assert decoded.likelihood.qualified == f"reprkit/{field.likelihood}"
        assert decoded.x.dtype == target.dtype
        loss = decoded.nll(target)
        assert loss.shape == target.shape[:2]
        loss.sum().backward()
        for name, parameter in decoder.named_parameters():
            assert parameter.grad is not None, (name, tokens)
            assert parameter.grad.isfinite().all(), (name, tokens)
        # No token of the code is dropped on the way.
        assert features.x.grad.abs().amax(-1).min() > 0, tokens


@pytest.mark.parametrize(("reference", "field"), CASES)
def test_bfloat16_autocast_runs(reference, field):
    decoder = make(reference, field, 1)
    features = features_for(decoder, 1, (1,))
    with torch.autocast("cpu", torch.bfloat16):
        decoded = decoder(features, length=LENGTH if None in field.shape else None)
        loss = decoded.nll(to_tokens(batch_of(field), decoded.grid, field.kind))
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert features.x.grad.isfinite().all()


@pytest.mark.parametrize(("reference", "field"), CASES)
def test_visible_tokens_are_put_at_their_positions(reference, field):
    """In whatever order the visible tokens come; moving one moves the output."""
    build_tokens = None if None in field.shape else 12
    decoder = make(reference, field, build_tokens).eval()
    positions = torch.stack([torch.randperm(12)[:5] for _ in range(3)])
    x = torch.randn(3, 5, decoder.in_dim)
    length = 12 if build_tokens is None else None

    def decoded(x, positions):
        return decoder(Features(x=x, positions=positions, length=12, grid=(3, 4)), length=length).params

    one, two = decoded(x, positions), decoded(x.flip(1), positions.flip(1))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=1e-5, rtol=1e-5)
    moved = decoded(x, (positions + 1) % 12)
    assert any(not torch.allclose(value, moved[name], atol=1e-4) for name, value in one.items())


@pytest.mark.parametrize("found", Registry(installed=False).specs("decoder"), ids=str)
@pytest.mark.parametrize("options", [{"likelihood": "bernoulli"}, {"scale": "each"}, {"scale": 0.3}])
def test_the_likelihood_can_be_chosen(found, options):
    if found.name in ("flat", "mirror") and options.get("scale") == "each":
        with pytest.raises(PartArgumentError, match="'shared' or a number above 0"):  # it would need a layer
            create("decoder", found.qualified, data=signature(FIELDS["digits"]), tokens=1, **options)
        return
    if found.name == "mirror":
        pytest.skip("it is bound to a model: see test_flat_and_mirror.py")
    decoder = create("decoder", found.qualified, data=signature(FIELDS["digits"]), tokens=1, **options)
    decoded = decoder(features_for(decoder, 1, (1,)))
    assert decoded.likelihood.qualified == f"reprkit/{options.get('likelihood', 'gaussian')}"
    if options.get("scale") == "each":
        assert decoded.params["log_scale"].shape == decoded.x.shape
    if options.get("scale") == 0.3:
        torch.testing.assert_close(decoded.params["log_scale"], torch.full((1, 1, 1), math.log(0.3)))


@pytest.mark.parametrize(
    ("cls", "options", "field", "tokens", "error", "word"),
    [
        (MLPDecoder, {}, "text", None, BuildError, "varies"),
        (MLPDecoder, {}, "vector", None, BuildError, "pool=True"),
        (MLPDecoder, {"depth": 0}, "vector", 1, PartArgumentError, "depth"),
        (MLPDecoder, {"likelihood": "categorical"}, "vector", 1, PartArgumentError, "categorical"),
        (MLPDecoder, {"likelihood": "gausian"}, "vector", 1, UnknownPartError, "Did you mean 'gaussian'"),
        (MLPDecoder, {"scale": "one"}, "vector", 1, PartArgumentError, "'one'"),
        (MLPDecoder, {"scale": 0}, "vector", 1, PartArgumentError, "above 0"),
        (MLPDecoder, {"scale": True}, "vector", 1, PartArgumentError, "scale=True"),
        (ConvDecoder, {}, "vector", 1, BuildError, "images"),
        (ConvDecoder, {}, "digits", None, BuildError, "pool=True"),
        (ConvDecoder, {"depth": 3}, "wide", 1, BuildError, "12 x 20: use depth=2"),
        (ViTDecoder, {}, "text", 1, BuildError, "images"),
        (ViTDecoder, {"patch": 5}, "digits", 1, BuildError, "1, 2, 4, 8"),
        (ViTDecoder, {"heads": 5}, "digits", 1, PartArgumentError, "5 heads"),
        (GRUDecoder, {"width": -1}, "text", None, PartArgumentError, "width"),
        (LSTMDecoder, {"dropout": 1.0}, "text", None, PartArgumentError, "dropout"),
        (LSTMDecoder, {"depth": 0}, "text", None, PartArgumentError, "depth"),
        (GRUDecoder, {"causal": "yes"}, "text", None, PartArgumentError, "True or False"),
        (TransformerDecoder, {"causal": None}, "text", None, PartArgumentError, "True or False"),
        (TransformerDecoder, {"likelihood": "bernoulli"}, "text", None, PartArgumentError, "bernoulli"),
    ],
)
def test_invalid_arguments_raise(cls, options, field, tokens, error, word):
    with pytest.raises(error, match=word):
        cls(**options, data=signature(FIELDS[field]), tokens=tokens)


@pytest.mark.parametrize("reference", REFERENCES)
def test_decoding_without_a_code_raises(reference):
    decoder = make(reference, FIELDS["digits"], 1)
    with pytest.raises(BuildError, match="code"):
        decoder(None)


@pytest.mark.parametrize("reference", REFERENCES)
def test_decoders_that_are_not_causal_have_no_step(reference):
    decoder = make(reference, FIELDS["digits"], 1)
    if "causal" in decoder.provides:
        decoder.start(None, size=1, length=1)
        return
    with pytest.raises(PartArgumentError, match="not causal"):
        decoder.start(None, size=1, length=1)
