"""Recurrent and attentive encoders: padding, gaps, causality, longer sequences."""

import pytest
import torch

from reprkit.data.signature import Field, Signature
from reprkit.encoders.gru import GRUEncoder
from reprkit.encoders.transformer import TransformerEncoder

FRAMES = Signature({"x": Field(kind="sequence", shape=(None, 3))})
TEXT = Signature({"x": Field(kind="tokens", shape=(None,), vocab=11)})
BOTH = [
    pytest.param(cls, {**options, "causal": causal}, id=f"{name}-{'causal' if causal else 'both-ways'}")
    for name, cls, options in (
        ("gru", GRUEncoder, {"width": 6, "depth": 2}),
        ("transformer", TransformerEncoder, {"width": 16, "depth": 2, "heads": 2}),
    )
    for causal in (True, False)
]


def make_encoder(cls, options, data=FRAMES):
    torch.manual_seed(0)
    return cls(**options, data=data).eval()


@pytest.mark.parametrize(("cls", "options"), BOTH)
def test_padding_has_no_effect(cls, options):
    encoder = make_encoder(cls, options)
    x, mask = torch.randn(3, 9, 3), torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    padded = encoder({"x": x, "x_mask": mask}).x
    for row, length in enumerate((9, 4, 1)):
        alone = encoder({"x": x[row : row + 1, :length]}).x
        torch.testing.assert_close(padded[row, :length], alone[0], atol=1e-5, rtol=1e-5)
    junk = torch.where(mask[..., None], x, 1e4)
    more = torch.cat([junk, torch.full((3, 5, 3), -1e4)], 1)
    wider = encoder({"x": more, "x_mask": torch.cat([mask, torch.zeros(3, 5, dtype=torch.bool)], 1)}).x
    torch.testing.assert_close(wider[:, :9][mask], padded[mask], atol=1e-5, rtol=1e-5)
    assert wider.isfinite().all()


@pytest.mark.parametrize(("cls", "options"), BOTH)
def test_values_in_a_gap_have_no_effect(cls, options):
    encoder = make_encoder(cls, options)
    x, mask = torch.randn(2, 6, 3), torch.tensor([[0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    one = encoder({"x": x, "x_mask": mask}).x
    two = encoder({"x": torch.where(mask[..., None], x, 7.0), "x_mask": mask}).x
    torch.testing.assert_close(one[mask], two[mask], atol=1e-6, rtol=1e-6)
    assert one.isfinite().all()  # an example without any valid step too
    if cls is GRUEncoder:  # a recurrent state passes a gap by
        dense = encoder({"x": x[:1, [1, 3, 4]]}).x
        torch.testing.assert_close(one[0, [1, 3, 4]], dense[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("cls", "options"), BOTH)
def test_causal_steps_do_not_depend_on_later_ones(cls, options, masked):
    encoder = make_encoder(cls, options)
    x = torch.randn(2, 8, 3)
    other = x.clone()
    other[:, 5:] += 1
    extra = {"x_mask": torch.ones(2, 8, dtype=torch.bool)} if masked else {}
    one, two = encoder({"x": x, **extra}).x, encoder({"x": other, **extra}).x
    if options["causal"]:
        torch.testing.assert_close(one[:, :5], two[:, :5], atol=1e-6, rtol=1e-6)
    else:
        assert (one[:, :5] - two[:, :5]).abs().amax(-1).min() > 1e-4
    assert (one[:, 5:] - two[:, 5:]).abs().amax(-1).min() > 1e-4


@pytest.mark.parametrize(("cls", "options"), BOTH)
def test_a_full_mask_equals_none(cls, options):
    encoder, x = make_encoder(cls, options), torch.randn(2, 8, 3)
    full = {"x": x, "x_mask": torch.ones(2, 8, dtype=torch.bool)}
    torch.testing.assert_close(encoder(full).x, encoder({"x": x}).x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("cls", "options"), BOTH)
def test_the_mask_symbol_is_embedded(cls, options):
    encoder = make_encoder(cls, options, TEXT)
    text = torch.tensor([[0, 3, 10]])
    hidden = torch.tensor([[0, 11, 10]])
    assert not torch.allclose(encoder({"x": text}).x, encoder({"x": hidden}).x)


def test_the_transformer_uses_the_order_and_reads_longer_sequences():
    encoder = make_encoder(TransformerEncoder, {"width": 16, "depth": 2, "heads": 2})
    x = torch.randn(1, 4, 3)
    turned = encoder({"x": x.flip(1)}).x.flip(1)
    assert not torch.allclose(turned, encoder({"x": x}).x, atol=1e-3)
    assert encoder({"x": torch.randn(1, 700, 3)}).x.isfinite().all()


def test_visible_frames_are_read_in_order_of_time():
    encoder, x = make_encoder(GRUEncoder, {"width": 6}), torch.randn(2, 8, 3)
    keep = torch.tensor([[6, 1, 4], [0, 7, 2]])
    found = encoder({"x": x}, keep=keep).x
    dense = encoder({"x": torch.stack([x[0, [1, 4, 6]], x[1, [0, 2, 7]]])}).x
    torch.testing.assert_close(
        found, torch.stack([dense[0, [2, 0, 1]], dense[1, [0, 2, 1]]]), atol=1e-6, rtol=1e-6
    )


def test_dropout_is_for_training_only():
    encoder = make_encoder(TransformerEncoder, {"width": 16, "depth": 1, "heads": 2, "dropout": 0.5})
    batch = {"x": torch.randn(2, 4, 3)}
    assert torch.equal(encoder(batch).x, encoder(batch).x)
    encoder.train()
    assert not torch.equal(encoder(batch).x, encoder(batch).x)
