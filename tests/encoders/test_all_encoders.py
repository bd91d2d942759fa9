"""The core's encoders beyond the conformance kit: keep in any order, bf16, units of the data."""

import pytest
import torch

from reprkit.data.signature import Field, Signature
from reprkit.encoders.conv import ConvEncoder
from reprkit.encoders.gru import GRUEncoder
from reprkit.encoders.mlp import MLPEncoder
from reprkit.encoders.transformer import TransformerEncoder
from reprkit.encoders.vit import ViTEncoder
from reprkit.errors import BuildError, PartArgumentError
from reprkit.registry.create import create
from reprkit.registry.registry import Registry
from reprkit.testing.small import small_references

FIELDS = {
    "digits": Field(kind="image", shape=(8, 8, 1), range=(0, 1)),
    "wide": Field(kind="image", shape=(12, 20, 3)),
    "vector": Field(kind="vector", shape=(7,)),
    "frames": Field(kind="sequence", shape=(9, 3)),
    "varying": Field(kind="sequence", shape=(None, 3), range=(-5, 5)),
    "text": Field(kind="tokens", shape=(None,), vocab=11),
    "word": Field(kind="tokens", shape=(5,), vocab=11),
    "label": Field(kind="label", shape=(), vocab=4),
}
REFERENCES = [
    *small_references("encoder"),
    "mlp(widths=(9, 5), norm='layer', activation='tanh')",
    "conv(width=7, depth=1, blocks=0)",
    "vit(patch=4, width=15, heads=3, depth=1)",
    "gru(width=6, depth=2)",
    "gru(width=7, causal=False)",
    "transformer(width=15, heads=3, causal=True, depth=2)",
]


def cases():
    """Every reference on every field that it supports."""
    for reference in REFERENCES:
        for name, field in FIELDS.items():
            try:
                part = create("encoder", reference, data=signature(field))
            except BuildError:
                continue
            yield pytest.param(type(part), dict(part.arguments), field, id=f"{reference}-{name}")


def signature(field):
    return Signature({"x": field})


CASES = list(cases())
KEEPERS = [case for case in CASES if "keep" in case.values[0].provides]


def batch_of(field, size=3, length=6):
    shape = (size, *(length if each is None else each for each in field.shape))
    batch = {"x": torch.randint(field.vocab, shape)} if field.discrete else {"x": torch.rand(shape)}
    if None in field.shape:
        lengths = torch.arange(size).remainder(length).add(1)
        batch["x_mask"] = torch.arange(length) < lengths[:, None]
    return batch


@pytest.mark.parametrize("found", Registry(installed=False).specs("encoder"), ids=str)
def test_the_defaults_read_digits(found):
    encoder = create("encoder", found.qualified, data=signature(FIELDS["digits"]))
    assert encoder.arguments == {}
    assert encoder(batch_of(FIELDS["digits"])).x.shape == (
        3,
        encoder.count(batch_of(FIELDS["digits"])),
        encoder.out_dim,
    )


@pytest.mark.parametrize(("cls", "options", "field"), CASES)
def test_gradients_are_finite_and_no_parameter_is_a_scalar(cls, options, field):
    encoder = cls(**options, data=signature(field))
    if not list(encoder.parameters()):
        pytest.skip("it has no layer of its own")
    encoder(batch_of(field)).x.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.ndim >= 1, name


@pytest.mark.parametrize(("cls", "options", "field"), CASES)
def test_bfloat16_autocast_runs_forward_and_backward(cls, options, field):
    encoder, batch = cls(**options, data=signature(field)), batch_of(field)
    with torch.autocast("cpu", torch.bfloat16):
        x = encoder(batch).x
    if x.requires_grad:
        x.float().square().sum().backward()
    torch.testing.assert_close(x.float(), encoder(batch).x, atol=0.2, rtol=0.1)


@pytest.mark.parametrize(("cls", "options", "field"), KEEPERS)
def test_visible_tokens_have_positions(cls, options, field):
    encoder, batch = cls(**options, data=signature(field)).eval(), batch_of(field, length=8)
    count = encoder.count(batch)
    keep = torch.rand(3, count).argsort(1)[:, : max(1, count // 2)]
    features = encoder(batch, keep=keep)
    assert features.x.shape == (3, keep.shape[1], encoder.out_dim)
    assert torch.equal(features.positions, keep)
    assert features.length == count
    if "x_mask" in batch:
        assert torch.equal(features.mask, batch["x_mask"].gather(1, keep))
    # The order in which they are named is only the order in which they come back.
    order = torch.arange(keep.shape[1]).flip(0)
    turned = encoder(batch, keep=keep[:, order])
    torch.testing.assert_close(turned.x, features.x[:, order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("cls", "options", "field"), KEEPERS)
def test_keeping_all_changes_nothing_and_other_tokens_are_not_read(cls, options, field):
    encoder, batch = cls(**options, data=signature(field)).eval(), batch_of(field, length=8)
    count = encoder.count(batch)
    everything = torch.arange(count).expand(3, -1)
    valid = batch.get("x_mask", torch.ones(3, count, dtype=torch.bool))
    same = encoder(batch, keep=everything).x
    torch.testing.assert_close(same[valid], encoder(batch).x[valid], atol=1e-5, rtol=1e-5)
    if count == 1 or field.kind == "image":
        return
    keep = torch.arange(count // 2).expand(3, -1)
    hidden = dict(batch, x=batch["x"].clone())
    hidden["x"][:, count // 2 :] = 1
    assert torch.equal(encoder(batch, keep=keep).x, encoder(hidden, keep=keep).x)


@pytest.mark.parametrize(
    ("cls", "options", "field", "error", "word"),
    [
        (MLPEncoder, {}, "text", BuildError, "varies"),
        (MLPEncoder, {"width": 0}, "digits", PartArgumentError, "width"),
        (MLPEncoder, {"widths": ()}, "digits", PartArgumentError, "widths"),
        (MLPEncoder, {"widths": (8, 0)}, "digits", PartArgumentError, "widths"),
        (MLPEncoder, {"activation": "rellu"}, "digits", PartArgumentError, "Did you mean 'relu'"),
        (MLPEncoder, {"norm": "batch"}, "digits", PartArgumentError, "'layer' or 'none'"),
        (MLPEncoder, {"dropout": 1.0}, "digits", PartArgumentError, "below 1"),
        (ConvEncoder, {}, "vector", BuildError, "images"),
        (ConvEncoder, {"depth": 3}, "wide", BuildError, "12 x 20: use depth=2, or pad to 16 x 24"),
        (ConvEncoder, {"depth": -1}, "wide", PartArgumentError, "depth"),
        (ViTEncoder, {}, "text", BuildError, "images"),
        (ViTEncoder, {"patch": 3}, "digits", BuildError, "1, 2, 4, 8"),
        (ViTEncoder, {"patch": 0}, "digits", PartArgumentError, "patch"),
        (ViTEncoder, {"heads": 3}, "digits", PartArgumentError, "3 heads do not divide a width of 128"),
        (GRUEncoder, {"causal": 1}, "frames", PartArgumentError, "True or False"),
        (GRUEncoder, {"depth": True}, "frames", PartArgumentError, "depth"),
        (TransformerEncoder, {"dropout": -0.1}, "frames", PartArgumentError, "dropout"),
    ],
)
def test_invalid_arguments_raise(cls, options, field, error, word):
    with pytest.raises(error, match=word):
        cls(**options, data=signature(FIELDS[field]))


def test_labels_without_a_vocabulary_raise():
    with pytest.raises(BuildError, match="vocab"):
        GRUEncoder(data=Signature({"x": Field(kind="label", shape=())}))


@pytest.mark.parametrize("cls", [MLPEncoder, ConvEncoder])
def test_encoders_without_keep_raise(cls):
    encoder = cls(data=signature(FIELDS["digits"]))
    assert "keep" not in encoder.provides
    with pytest.raises(BuildError, match="use vit"):
        encoder(batch_of(FIELDS["digits"]), keep=torch.zeros(3, 1, dtype=torch.int64))


@pytest.mark.parametrize(("cls", "options", "field"), [case for case in CASES if not case.values[2].discrete])
def test_the_range_of_the_data_is_normalized(cls, options, field):
    """The same data in other units is encoded alike, whatever the numbers are."""
    unit = Field(kind=field.kind, shape=field.shape, range=(0, 1))
    loud = Field(kind=field.kind, shape=field.shape, range=(100, 500))
    one, two = cls(**options, data=signature(unit)), cls(**options, data=signature(loud))
    two.load_state_dict(one.state_dict())
    batch = batch_of(field)
    other = dict(batch, x=batch["x"] * 400 + 100)
    torch.testing.assert_close(two.eval()(other).x, one.eval()(batch).x, atol=1e-3, rtol=1e-3)
